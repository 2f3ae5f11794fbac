#pragma once
// A process that holds a secret leaves no image of its memory behind.

namespace strata::sys {

/// From now on a crash writes no core file, and no other process of this user may attach to this
/// one or read its memory. Lasts until the process ends. Only in optimised builds: debuggers and
/// sanitizers need what it forbids.
void shut_memory();

}  // namespace strata::sys
