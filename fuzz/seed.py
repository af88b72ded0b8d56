"""Writes the golden snapshots and records where the fuzzer finds them as its first inputs."""

from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "tests/rust/formats/golden"

for target, pattern in [
    ("snapshot_open", "*snapshot_v*.hex"),
    ("snapshot_inspect", "*snapshot_v*.hex"),
    ("record_decode", "*records_v*.hex"),
]:
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for path in GOLDEN.glob(pattern):
        for number, text in enumerate(path.read_text().split("\n\n")):
            # The last byte tells the target which number a record has.
            seed = bytes.fromhex(text) + (bytes([number]) if target == "record_decode" else b"")
            (corpus / f"{path.stem}_{number}").write_bytes(seed)

# The body is between a header of 20 bytes and a checksum of 16.
corpus = HERE / "corpus" / "archive_decode"
corpus.mkdir(parents=True, exist_ok=True)
for path in (HERE.parent / "tests/python/fixtures").glob("*.treadle"):
    (corpus / path.stem).write_bytes(path.read_bytes()[20:-16])
