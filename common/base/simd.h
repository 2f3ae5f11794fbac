#pragma once
// STRATA_SIMD before a plain function compiles it once per instruction set and picks at load time
// what the CPU has. An attribute cannot be named without a macro. Sanitizer builds leave it out:
// the picking runs before their run-time is up.
#if defined(STRATA_NO_CLONES) || !defined(__x86_64__)
#define STRATA_SIMD
#else
#define STRATA_SIMD [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#endif
