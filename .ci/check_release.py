"""Check what `make wheels` built in a folder: sizes, tags, contents. Stops at the first error.

python .ci/check_release.py dist
"""

import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

MOST_BYTES = 5_000_000
PLATFORM = f"manylinux_2_17_{platform.machine()}"
IN_WHEEL = ("treadle/__init__.py", "treadle/_treadle.pyi", "treadle/py.typed")
IN_SDIST = (
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "src/lib.rs",
    "python/treadle/__init__.py",
    "LICENSE",
)


def main(folder: Path) -> None:
    """Check every file of the folder."""
    wheels = sorted(folder.glob("*.whl"))
    sdists = sorted(folder.glob("*.tar.gz"))
    if not wheels or len(sdists) != 1:
        sys.exit(f"{folder}: {len(wheels)} wheels and {len(sdists)} sdists")
    for wheel in wheels:
        check_wheel(wheel)
    check_sdist(sdists[0])


def check_wheel(wheel: Path) -> None:
    """A wheel is small, whole, and runs where its tag says."""
    check_size(wheel)
    names = zipfile.ZipFile(wheel).namelist()
    check_names(wheel, names, IN_WHEEL)
    extensions = [name for name in names if name.endswith(".so")]
    if len(extensions) != 1:
        sys.exit(f"{wheel.name}: one extension is expected, not {extensions}")
    audit = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True
    )
    if audit.returncode or f'"{PLATFORM}"' not in audit.stdout:
        sys.exit(f"{wheel.name} is not consistent with {PLATFORM}:\n{audit.stdout}{audit.stderr}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {PLATFORM}")


def check_sdist(sdist: Path) -> None:
    """An sdist is small and has all that a build needs."""
    check_size(sdist)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    check_names(sdist, names, IN_SDIST)
    print(f"{sdist.name}: {sdist.stat().st_size / 1e6:.2f} MB")


def check_size(path: Path) -> None:
    """A file to download stays small."""
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path.name} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def check_names(path: Path, names: list[str], wanted: tuple[str, ...]) -> None:
    """Nothing is missing, and nothing is there that a build left behind."""
    missing = [name for name in wanted if name not in names]
    left = [
        name for name in names if "__pycache__" in name or name.startswith(("target/", ".venv"))
    ]
    if missing or left:
        sys.exit(f"{path.name}: missing {missing}, unwanted {left}")


main(Path(sys.argv[1]))
