#!/usr/bin/env python3
"""Writes the corpus: files as an attacker, a broken disk or an old program would send them, and a few good ones.

    tests/hostile/make.py            writes tests/hostile/corpus/<target>/<case>

The bytes are built here from the format documents (docs/formats), not with the code that reads them. What each file must be
answered with stands in expected.json beside it, which people write (hostile_test.cpp says how) and review.
"""
import hashlib
import json
import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


# --- frames (docs/formats/wire.md) ------------------------------------------------------------------------------------------

RUN = bytes(range(16))


def header(kind, length, sequence=0, magic=b"STRA", version=1, flags=0, round_=0):
    head = magic + struct.pack("<HHIQ", version, kind, flags, length) + RUN + struct.pack("<QQ", round_, sequence)
    return head + struct.pack("<I", crc32c(head))


def frame(kind, payload, **more):
    return header(kind, len(payload), **more) + payload + struct.pack("<I", crc32c(payload))


def block(data):
    return struct.pack("<I", len(data)) + data


HASH = hashlib.sha256(b"x").digest()
MARK = HASH + struct.pack("<Q", 5) + HASH
READY = struct.pack("<I", 0) + HASH
HELLO = struct.pack("<HH", 2, 2) + block(b"strata 0.1.0") + RUN + HASH + struct.pack("<I", 0) + HASH + MARK
TRAINING = struct.pack("<QQQdddd", 1, 2, 3, 4.0, 3.0, 0.5, 0.0)


def offer(size, data=b""):
    return struct.pack("<I", 1) + HASH + HASH + struct.pack("<Q", size) + block(data) + TRAINING + MARK


HELLO_T, READY_T, OFFER_T, ACK_T, HISTORY_T, FETCH_T, CHUNK_T = 16, 18, 20, 22, 25, 26, 256

for name, data in {
    "good-hello": frame(HELLO_T, HELLO),
    "wrong-magic": frame(HELLO_T, HELLO, magic=b"HTTP"),
    "http-request": b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: somebody/1.0\r\n\r\n",
    "other-version": frame(HELLO_T, HELLO, version=7),
    "unknown-flags": frame(HELLO_T, HELLO, flags=0x8000),
    "header-bit-flipped": bytes(b ^ (1 if i == 20 else 0) for i, b in enumerate(frame(HELLO_T, HELLO))),
    "length-2-to-the-63": header(HELLO_T, 1 << 63),
    "length-all-ones": header(HELLO_T, (1 << 64) - 1),
    "over-the-first-cap": header(HELLO_T, 4097),
    "chunk-before-trust": header(CHUNK_T, 1 << 20),
    "ends-inside-header": frame(HELLO_T, HELLO)[:30],
    "ends-inside-payload": frame(HELLO_T, HELLO)[:100],
    "empty": b"",
}.items():
    put("first_frame", name, data)

for name, data in {
    "good-two-frames": frame(HELLO_T, HELLO) + frame(READY_T, READY, sequence=1),
    "good-offer": frame(OFFER_T, offer(3, b"abc")),
    "good-chunk": frame(CHUNK_T, HASH + struct.pack("<Q", 0) + block(b"data")),
    "length-2-to-the-63": header(OFFER_T, 1 << 63),
    "control-over-its-cap": header(OFFER_T, (1 << 20) + 1),
    "chunk-over-its-cap": header(CHUNK_T, (4 << 20) + 257),
    "payload-bit-flipped": frame(OFFER_T, offer(3, b"abc"))[:-10] + b"\x55" + frame(OFFER_T, offer(3, b"abc"))[-9:],
    "sequence-repeated": frame(READY_T, READY) + frame(READY_T, READY),
    "sequence-skipped": frame(READY_T, READY) + frame(READY_T, READY, sequence=2),
    "unknown-type": frame(99, b""),
    "bytes-behind-a-message": frame(READY_T, READY + b"\0"),
    "hello-ends-early": frame(HELLO_T, HELLO[:-1]),
    "text-longer-than-message": frame(HELLO_T, struct.pack("<HH", 2, 2) + struct.pack("<I", 1 << 31)),
    "data-of-another-size": frame(OFFER_T, offer(4, b"abc")),
    "yes-that-is-neither": frame(28, block(b"E_PEER") + block(b"no") + b"\x02"),
    "unknown-outcome": frame(ACK_T, struct.pack("<I", 1) + HASH + HASH + b"\x09" + block(b"")),
    "history-of-a-million-rounds": frame(HISTORY_T, struct.pack("<I", 1000000)),
    "fetch-of-nothing": frame(FETCH_T, HASH + struct.pack("<QQ", 0, 0)),
    "fetch-of-everything": frame(FETCH_T, HASH + struct.pack("<QQ", 0, 1 << 40)),
    "garbage-after-a-frame": frame(READY_T, READY) + b"\xff" * 64,
}.items():
    put("frame", name, data)


# --- safetensors ------------------------------------------------------------------------------------------------------------

def safetensors(head, data=b"", length=None):
    text = head if isinstance(head, (str, bytes)) else json.dumps(head, separators=(",", ":"))
    text = text if isinstance(text, bytes) else text.encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def place(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


F8 = struct.pack("<8f", *range(8))
two = {"a": place([2, 2], 0, 16), "b": place([4], 16, 32)}
for name, data in {
    "good": safetensors({"__metadata__": {"by": "nobody"}, **two}, F8),
    "good-out-of-order": safetensors({"b": two["b"], "a": two["a"]}, F8),
    "good-empty-tensor": safetensors({"a": place([0, 5], 0, 0), "b": place([4], 0, 16)}, F8[:16]),
    "shorter-than-its-length": b"\x10\x00\x00",
    "empty": b"",
    "header-beyond-the-file": safetensors(two, F8, length=1 << 20),
    "header-length-2-to-the-63": safetensors(two, F8, length=1 << 63),
    "header-over-the-reference-cap": safetensors(two, F8, length=(100 << 20) + 1),
    "header-length-zero": safetensors(two, F8, length=0),
    "header-is-a-list": safetensors("[]      ", F8),
    "header-begins-with-a-space": safetensors(b' {"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}', F8),
    "header-is-not-utf8": safetensors(b'{"\xff\xfe":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}', F8),
    "header-is-no-json": safetensors('{"a":', F8),
    "header-nested-deeply": safetensors('{"a":' + "[" * 200 + "]" * 200 + "}", F8),
    "begin-after-end": safetensors({"a": place([4], 16, 0)}, F8[:16]),
    "end-beyond-the-data": safetensors({"a": place([8], 0, 32)}, F8[:16]),
    "hole": safetensors({"a": place([2], 0, 8), "b": place([2], 16, 24)}, F8[:24]),
    "hole-in-front": safetensors({"a": place([2], 8, 16)}, F8[:16]),
    "overlap": safetensors({"a": place([4], 0, 16), "b": place([4], 8, 24)}, F8[:24]),
    "bytes-behind-the-last": safetensors({"a": place([4], 0, 16)}, F8),
    "size-that-is-not-the-shapes": safetensors({"a": place([3], 0, 16)}, F8[:16]),
    "shape-product-overflows": safetensors({"a": place([1 << 33, 1 << 33], 0, 16)}, F8[:16]),
    "shape-product-wraps-to-size": safetensors({"a": place([1 << 62, 16, 1], 0, 16)}, F8[:16]),
    "negative-dimension": safetensors('{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}', F8[:16]),
    "fractional-dimension": safetensors('{"a":{"dtype":"F32","shape":[4.5],"data_offsets":[0,16]}}', F8[:16]),
    "offset-beyond-64-bits": safetensors('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551632]}}', F8[:16]),
    "unknown-type": safetensors({"a": place([4], 0, 16, "F33")}, F8[:16]),
    "duplicate-tensor": safetensors('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                                    '"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', F8[:16]),
    "duplicate-key-inside": safetensors('{"a":{"dtype":"F32","shape":[4],"shape":[2,2],"data_offsets":[0,16]}}', F8[:16]),
    "metadata-that-is-no-text": safetensors({"__metadata__": {"n": 1}, "a": place([4], 0, 16)}, F8[:16]),
    "missing-offsets": safetensors('{"a":{"dtype":"F32","shape":[4]}}', F8[:16]),
    "three-offsets": safetensors('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8,16]}}', F8[:16]),
    "terminal-codes-in-a-name": safetensors({"\x1b[2J\x07": place([4], 0, 12)}, F8[:12]),
}.items():
    put("safetensors", name, data)


# --- updates (docs/formats/update.md) ---------------------------------------------------------------------------------------

def floats(n, start=1.0):
    return [start + i / 8 for i in range(n)]


# The plan in targets.cpp: a is 4 x 3 by two terms of rank 2, b is 2 x 2 and changed as a whole.
GOOD = {"a:0.A": ([2, 3], floats(6)), "a:0.B": ([4, 2], floats(8)), "b:0.dense": ([2, 2], floats(4))}


def philox(key, counter):
    """Philox4x32-10 (Salmon et al. 2011): four words."""
    low = 0xFFFFFFFF
    k0, k1 = key & low, key >> 32
    c0, c1, c2, c3 = counter
    for _ in range(10):
        x, y = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (y >> 32) ^ c1 ^ k0, y & low, (x >> 32) ^ c3 ^ k1, x & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def name_hash(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & (2**64 - 1)
    return value


def stream_at(key, purpose, round_=0, item=0):
    """The key of the stream of an address below another (common/sys/random.h)."""
    for number, part in enumerate([name_hash(purpose), 0, round_ << 32, item], 1):
        words = philox(key, (part & 0xFFFFFFFF, part >> 32, number, 0))
        key = words[1] << 32 | words[0]
    return key


def id_of_a(seed, round_, tensor):
    words = philox(stream_at(stream_at(seed, "shared"), "seeded_a id", round_, name_hash(tensor)), (0, 0, 0, 0xD7A7))
    return "%016x" % (words[0] << 32 | words[1] | 1)


SEEDED = {"id:a:0.A": id_of_a(0, 1, "a"), "columns:a:0.A": "%016x" % 3}


def update(tensors=None, weight=1.0, meta=None, dtype="F32"):
    tensors = GOOD if tensors is None else tensors
    head = {"__metadata__": {"base": HASH.hex(), "encoding": "f32", "round": "%016x" % 1, "update": "strata-update-1",
                             "weight": "%016x" % struct.unpack("<Q", struct.pack("<d", weight))[0], **(meta or {})}}
    data = b""
    for name in sorted(tensors):
        shape, values = tensors[name]
        raw = struct.pack("<%df" % len(values), *values)
        head[name] = place(shape, len(data), len(data) + len(raw), dtype)
        data += raw
    return safetensors(head, data)


def but(**changes):
    out = dict(GOOD)
    for name, value in changes.items():
        name = name.replace("__", ":", 1).replace("_", ".", 1)
        if value is None:
            del out[name]
        else:
            out[name] = value
    return out


nan, inf, denormal = float("nan"), float("inf"), 1e-44
for name, data in {
    "good": update(),
    "good-two-terms": update({**GOOD, "a:1.A": ([2, 3], floats(6)), "a:1.B": ([4, 2], floats(8))}),
    "good-denormals": update(but(b__0_dense=([2, 2], [denormal, -denormal, 0.0, 1.0]))),
    "nan": update(but(b__0_dense=([2, 2], [1.0, nan, 1.0, 1.0]))),
    "nan-in-b": update(but(a__0_B=([4, 2], floats(7) + [nan]))),
    "infinity": update(but(a__0_A=([2, 3], [-inf] + floats(5)))),
    "rank-zero": update(but(a__0_A=([0, 3], []), a__0_B=([4, 0], []))),
    "rank-larger-than-planned": update(but(a__0_A=([3, 3], floats(9)), a__0_B=([4, 3], floats(12)))),
    "rank-smaller-than-planned": update(but(a__0_A=([1, 3], floats(3)), a__0_B=([4, 1], floats(4)))),
    "factors-that-disagree": update(but(a__0_A=([2, 3], floats(6)), a__0_B=([4, 3], floats(12)))),
    "other-shape": update(but(a__0_A=([2, 4], floats(8)), a__0_B=([3, 2], floats(6)))),
    "dense-for-low-rank": update({"a:0.dense": ([4, 3], floats(12)), "b:0.dense": ([2, 2], floats(4))}),
    "low-rank-for-dense": update({**but(b__0_dense=None), "b:0.A": ([1, 2], floats(2)), "b:0.B": ([2, 1], floats(2))}),
    "too-many-terms": update({**GOOD, **{f"a:{i}.{x}": ([2, 3] if x == "A" else [4, 2], floats(6 if x == "A" else 8))
                                         for i in (1, 2) for x in "AB"}}),
    "term-without-b": update(but(a__0_B=None)),
    "term-numbered-oddly": update({"a:1.A": GOOD["a:0.A"], "a:1.B": GOOD["a:0.B"], "b:0.dense": GOOD["b:0.dense"]}),
    "missing-tensor": update(but(b__0_dense=None)),
    "tensor-not-planned": update({**GOOD, "lm_head.weight:0.dense": ([2, 2], floats(4))}),
    "tensor-named-as-a-path": update({**GOOD, "../../etc/passwd:0.dense": ([2, 2], floats(4))}),
    "tensor-named-in-terminal-codes": update({**GOOD, "\x1b]0;owned\x07:0.dense": ([2, 2], floats(4))}),
    "part-of-no-term": update({**GOOD, "a:0.C": ([2, 2], floats(4))}),
    "no-tensor": update({}),
    "norm-beyond-any": update(but(a__0_B=([4, 2], [1e30] + floats(7)))),
    "weight-zero": update(weight=0.0),
    "weight-negative": update(weight=-1.0),
    "weight-nan": update(weight=nan),
    "weight-infinite": update(weight=inf),
    "weight-no-number": update(meta={"weight": "one"}),
    "round-no-number": update(meta={"round": "-1"}),
    "base-no-hash": update(meta={"base": "../../x"}),
    "other-kind-of-file": update(meta={"update": "strata-update-2"}),
    "other-encoding": update(meta={"encoding": "bf16"}),
    "unknown-encoding": update(meta={"encoding": "zip"}),
    "metadata-nobody-knows": update(meta={"surprise": "!"}),
    "int-values-said-to-be-f32": update(dtype="I32"),
    "cut-in-the-data": update()[:-4],
    "bytes-behind": update() + b"\0\0\0\0",
    "not-an-update": safetensors(two, F8),
    "drawn-for-sent": update(but(a__0_A=None), meta={"id:a:0.A": SEEDED["id:a:0.A"], "columns:a:0.A": "%016x" % 3}),
    "empty": b"",
}.items():
    put("update", name, data)

# The same in int8: x = scale q, a scale for each row.
def int8(scales=None, values=None, meta=None, without=()):
    head = {"__metadata__": {"base": HASH.hex(), "encoding": "int8", "round": "%016x" % 1, "update": "strata-update-1",
                             "weight": "%016x" % struct.unpack("<Q", struct.pack("<d", 1.0))[0], **(meta or {})}}
    parts, data = {}, b""
    for name, (shape, _) in GOOD.items():
        count = shape[0] * shape[1]
        parts[name] = ("I8", shape, bytes((values or {}).get(name, [i + 1 for i in range(count)])))
        scale = (scales or {}).get(name, [0.5] * shape[0])
        parts[name + ".scale"] = ("F32", [len(scale)], struct.pack("<%df" % len(scale), *scale))
    for name in sorted(set(parts) - set(without)):
        kind, shape, raw = parts[name]
        head[name] = place(shape, len(data), len(data) + len(raw), kind)
        data += raw
    return safetensors(head, data)


for name, data in {
    "good": int8(),
    "good-scale-zero": int8({"b:0.dense": [0.0, 0.5]}),
    "scale-missing": int8(without=["a:0.B.scale"]),
    "scale-short": int8({"a:0.B": [0.5] * 3}),
    "scale-long": int8({"a:0.B": [0.5] * 5}),
    "scale-nan": int8({"a:0.A": [0.5, nan]}),
    "scale-infinite": int8({"a:0.A": [inf, 0.5]}),
    "scale-negative": int8({"b:0.dense": [-0.5, 0.5]}),
    "scale-beyond-any-norm": int8({"b:0.dense": [1e30, 0.5]}),
    "values-missing": int8(without=["a:0.B"]),
    "floats": update(),
    "floats-said-to-be-int8": update(meta={"encoding": "int8"}),
    "int8-said-to-be-floats": int8(meta={"encoding": "f32"}),
    "cut": int8()[:-1],
}.items():
    put("int8_update", name, data)

# A client whose A the coordinator draws: B alone, and the names of what belongs to it.
LONE = {"a:0.B": GOOD["a:0.B"]}


def seeded(tensors=None, **meta):
    named = {**SEEDED, **meta}
    return update(LONE if tensors is None else tensors, meta={key: value for key, value in named.items() if value is not None})


for name, data in {
    "good": seeded(),
    "good-of-a-larger-header": seeded(surprise="!" * 5000),
    "sent-for-drawn": update({"a:0.A": GOOD["a:0.A"], "a:0.B": GOOD["a:0.B"]}),
    "sent-and-drawn": seeded({"a:0.A": GOOD["a:0.A"], "a:0.B": GOOD["a:0.B"]}),
    "without-columns": seeded(**{"columns:a:0.A": None}),
    "columns-none": seeded(**{"columns:a:0.A": "%016x" % 0}),
    "columns-other": seeded(**{"columns:a:0.A": "%016x" % 4}),
    "columns-a-billion": seeded(**{"columns:a:0.A": "%016x" % 10**9}),
    "columns-2-to-the-63": seeded(**{"columns:a:0.A": "%016x" % 2**63}),
    "columns-no-number": seeded(**{"columns:a:0.A": "three"}),
    "without-id": seeded(**{"id:a:0.A": None}),
    "other-seed": seeded(**{"id:a:0.A": id_of_a(1, 1, "a")}),
    "factor-of-the-round-before": seeded(**{"id:a:0.A": id_of_a(0, 0, "a")}),
    "other-round": seeded(round="%016x" % 2),
    "rank-larger-than-planned": seeded({"a:0.B": ([4, 3], floats(12))}),
    "rank-larger-than-the-tensor": seeded({"a:0.B": ([4, 1000], floats(4000))}),
    "other-shape": seeded({"a:0.B": ([5, 2], floats(10))}),
    "terms-of-two-methods": seeded({**LONE, "a:1.A": ([2, 3], floats(6)), "a:1.B": ([4, 2], floats(8))}),
    "tensor-nobody-knows": update({"c:0.B": ([4, 2], floats(8))},
                                  meta={"id:c:0.A": id_of_a(0, 1, "c"), "columns:c:0.A": "%016x" % 3}),
    "nan": seeded({"a:0.B": ([4, 2], floats(7) + [nan])}),
}.items():
    put("seeded_update", name, data)


# --- journals (docs/formats/journal.md) -------------------------------------------------------------------------------------

def journal(records, format_=1, kind=1, magic=b"STRAJRNL", chain=True, first=0, sure=None):
    out = magic + struct.pack("<HH", format_, kind) + bytes(4)
    previous = bytes(16)
    for i, (type_, payload) in enumerate(records):
        known = i if sure is None else sure[i]
        record = struct.pack("<IHHQQ", len(payload), type_, 0, first + i, known) + previous + payload
        record += struct.pack("<I", crc32c(record))
        out += record
        previous = hashlib.sha256(record).digest()[:16] if chain else bytes(16)
    return out


def names(*all_):
    return struct.pack("<I", len(all_)) + b"".join(block(n.encode()) for n in all_)


OPENED = (1, RUN + HASH + HASH)
ROUND = (2, struct.pack("<I", 1) + HASH + names("a", "b"))
CLOSED = (5, struct.pack("<I", 1) + names("a") + b"\x01")
good = [OPENED, ROUND, CLOSED]
whole = journal(good)
loose = journal(good, sure=[0, 0, 0])
for name, data in {
    "good": whole,
    "good-empty": b"",
    "good-only-the-header": whole[:16],
    "good-torn-at-the-end": whole[:-3],
    "good-torn-record-nobody-counted-on": loose[:70] + bytes([loose[70] ^ 1]) + loose[71:],
    "torn-header": whole[:9],
    "wrong-magic": journal(good, magic=b"SQLite f"),
    "newer-format": journal(good, format_=3),
    "other-kind": journal(good, kind=2),
    "bit-flipped-in-a-promised-record": whole[:70] + bytes([whole[70] ^ 1]) + whole[71:],
    "broken-chain": journal(good, chain=False),
    "sequence-from-five": journal(good, first=5),
    "length-2-to-the-31": whole[:16] + struct.pack("<I", 1 << 31) + whole[20:],
    "promised-more-than-there-is": journal(good, sure=[0, 1, 7]),
    "unknown-record": journal([OPENED, (99, b"")]),
    "record-too-short": journal([(1, RUN)]),
    "record-too-long": journal([(1, OPENED[1] + b"\0")]),
    "list-of-a-billion": journal([OPENED, (2, struct.pack("<I", 1) + HASH + struct.pack("<I", 1 << 30))]),
    "text": b"this is not a journal at all, it is a text file of some length\n" * 3,
}.items():
    put("journal", name, data)


# --- job files (docs/manual/job.md) -----------------------------------------------------------------------------------------

def job(changes="", clients='[{"name": "a", "data": "a.jsonl"}]', **sections):
    parts = ['"version": 1', '"model": {"path": "m"}', f'"clients": {clients}', '"privacy": {"mode": "none"}']
    parts += [f'"{k}": {v}' for k, v in sections.items()]
    if changes:
        parts.append(changes)
    return "{" + ", ".join(parts) + "}"


for name, data in {
    "good": job(training='{"batch_size": 4}'),
    "good-comment": "// a comment\n" + job(),
    "empty": "",
    "no-json": "version = 1",
    "list": "[]",
    "null": "null",
    "cut": job()[:-5],
    "text-behind": job() + " {}",
    "duplicate-key": job('"version": 1'),
    "duplicate-key-inside": job(training='{"batch_size": 4, "batch_size": 8}'),
    "unknown-key": job(traning="{}"),
    "unknown-key-inside": job(training='{"bach_size": 4}'),
    "nested-33-deep": job(training="[" * 33 + "]" * 33),
    "nested-100000-deep": "[" * 100000,
    "unclosed-strings": '{"' * 2000,
    "more-values-than-any-job": job(training="[" + "1," * 25000 + "1]"),
    "string-of-100-kB": job(name='"' + "x" * 100000 + '"'),
    "number-of-100-kB": job(training='{"batch_size": ' + "9" * 100000 + "}"),
    "invalid-utf8": job().encode().replace(b'"m"', b'"\xff\xfe"'),
    "nul-in-a-string": job(name='"a\\u0000b"'),
    "lone-surrogate": job(name='"\\ud800"'),
    "negative": job(training='{"batch_size": -1}'),
    "fraction": job(training='{"batch_size": 3.9}'),
    "2-to-the-32-and-1": job(training='{"batch_size": 4294967297}'),
    "2-to-the-64": job(training='{"seed": 18446744073709551616}'),
    "1e400": job(training='{"learning_rate": 1e400}'),
    "nan": job(training='{"learning_rate": NaN}'),
    "text-for-number": job(training='{"batch_size": "4"}'),
    "true-for-number": job(training='{"batch_size": true}'),
    "number-for-section": job(training="4"),
    "version-two": job().replace('"version": 1', '"version": 2'),
    "no-version": job().replace('"version": 1, ', ""),
    "no-clients": job(clients="[]"),
    "client-named-as-a-path": job(clients='[{"name": "../a", "data": "a.jsonl"}]'),
    "client-named-in-terminal-codes": job(clients='[{"name": "\\u001b[2J", "data": "a.jsonl"}]'),
    "client-name-of-64": job(clients='[{"name": "' + "a" * 64 + '", "data": "a.jsonl"}]'),
    "client-without-a-name": job(clients='[{"name": "", "data": "a.jsonl"}]'),
    "clients-of-one-name": job(clients='[{"name": "a", "data": "a.jsonl"}, {"name": "a", "data": "b.jsonl"}]'),
    "key-in-terminal-codes": job('"\\u001b]0;owned\\u0007": 1'),
}.items():
    put("job", name, data)


# --- tokenizer.json ---------------------------------------------------------------------------------------------------------

def added(id_, content, special=True):
    return {"id": id_, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special}


def tokenizer(**changes):
    vocab = {"<s>": 0, "</s>": 1}
    for c in [chr(c) for c in range(ord("!"), ord("~") + 1)] + ["\u0120", "\u010a", "ab"]:
        vocab[c] = len(vocab)
    out = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(0, "<s>"), added(1, "</s>")],
           "normalizer": None,
           "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
           "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                                "use_regex": True},
           "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                     "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                     "vocab": vocab, "merges": ["a b"]}}
    for path, value in changes.items():
        keys = path.split("__")
        inner = out
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
    return json.dumps(out, ensure_ascii=False)


for name, data in {
    "good": tokenizer(),
    "empty": "",
    "list": "[]",
    "cut": tokenizer()[:-20],
    "nested-100000-deep": '{"model":' + "[" * 100000,
    "no-model": tokenizer(model=...),
    "model-is-a-number": tokenizer(model=7),
    "unigram": tokenizer(model__type="Unigram"),
    "id-negative": tokenizer(model__vocab={"a": -1}, model__merges=[]),
    "id-huge": tokenizer(model__vocab={"a": 2**62}, model__merges=[]),
    "id-a-fraction": tokenizer(model__vocab={"a": 0.5}, model__merges=[]),
    "ids-twice": tokenizer(model__vocab={"a": 0, "b": 0}, model__merges=[]),
    "ids-with-holes-of-a-billion": tokenizer(model__vocab={"a": 0, "b": 1000000000}, model__merges=[]),
    "merge-of-unknown-tokens": tokenizer(model__merges=["q x"]),
    "merge-without-its-result": tokenizer(model__merges=["a c"]),
    "merge-of-three": tokenizer(model__merges=["a b c"]),
    "merge-of-numbers": tokenizer(model__merges=[[1, 2]]),
    "added-token-of-a-huge-id": tokenizer(added_tokens=[added(2**40, "<s>")]),
    "added-token-without-text": tokenizer(added_tokens=[added(0, "")]),
    "broken-pattern": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(" * 5}, "behavior": "Isolated",
                                               "invert": False}),
    "pattern-nested-deeply": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(" * 5000 + ")" * 5000},
                                                      "behavior": "Isolated", "invert": False}),
    "pattern-that-backtracks-for-ever": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"},
                                                                 "behavior": "Isolated", "invert": False}),
    "unknown-pre-tokenizer": tokenizer(pre_tokenizer={"type": "Magic"}),
    "pre-tokenizers-nested": tokenizer(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Sequence", "pretokenizers": []}]}),
    "template-of-unknown-token": tokenizer(post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}},
                                                 {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {}}),
    "duplicate-key": tokenizer().replace('"version": "1.0"', '"version": "1.0", "version": "1.0"', 1),
    "invalid-utf8": tokenizer().encode().replace(b'"ab"', b'"\xff\xff"', 1),
}.items():
    put("tokenizer", name, data)
