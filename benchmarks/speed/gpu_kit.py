"""Collects the packages that a GPU machine without package registries lacks, in files of at most 64 MiB.

    python -m benchmarks.speed.gpu_kit kit [--python 3.12]

The packages are Winnow's and pytest with all that they need, in the versions that are installed here. The machine is expected to have
torch, torchvision and the packages of `PRESENT`. Ray's wheel becomes `ray.tar.xz` without the parts that Winnow does not use, because it is
too large otherwise. benchmarks/speed/gpu.md says how to unpack the folder there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("winnow-search", "pytest", "pytest-timeout")
PRESENT = frozenset(
    ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "pillow", "winnow-search")
)
"""Packages that the machine has, with their dependencies; Winnow itself travels as the repository."""
UNUSED = tuple(
    f"ray/{part}/"
    for part in ("rllib", "serve", "llm", "cpp", "jars", "dashboard/client", "core/src/ray/thirdparty/redis")
)
MOST_BYTES = 64 * 2**20
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--python", default="3.12", help="version of Python on the machine. Default: 3.12")
    asked = parser.parse_args()
    download(packages(ROOTS, PRESENT), asked.python, asked.folder)
    (ray,) = asked.folder.glob("ray-*.whl")
    shrink(ray, asked.folder / "ray.tar.xz")
    ray.unlink()
    sizes = {file.name: file.stat().st_size for file in asked.folder.iterdir()}
    print(f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.0f} MiB, in {asked.folder}")
    if too_large := [name for name, size in sizes.items() if size > MOST_BYTES]:
        sys.exit(f"larger than 64 MiB: {', '.join(too_large)}")


def packages(roots: Iterable[str], present: Collection[str]) -> list[str]:
    """Return the packages that the roots need, as `name==version` of what is installed here.

    Args:
        roots: Names of packages.
        present: Names of packages that are left out, with all that only they need; the dependencies of a root that is among
            them still count.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [Requirement(name) for name in roots]
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name in seen or (name in present and name not in roots):
            continue
        seen.add(name)
        package = metadata.distribution(name)
        if name not in present:
            found[name] = package.version
        for text in package.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": of}) for of in ("", *asked.extras)):
                waiting.append(needed)
    return sorted(f"{name}=={version}" for name, version in found.items())


def download(names: Iterable[str], python: str, folder: Path) -> None:
    """Download the wheels of packages for Linux on x86-64.

    Args:
        names: The packages, as `name==version`.
        python: Version of Python on the machine, such as `3.12`.
        folder: Where the wheels are written.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, *names], check=True)


def shrink(wheel: Path, archive: Path) -> None:
    """Write the files of Ray's wheel as an archive, without those that Winnow does not use.

    Args:
        wheel: The wheel of Ray.
        archive: The `.tar.xz` to write.
    """
    with (
        TemporaryDirectory() as folder,
        zipfile.ZipFile(wheel) as source,
        tarfile.open(archive, "w:xz", preset=6) as target,
    ):
        for entry in source.infolist():
            if not entry.is_dir() and not entry.filename.startswith(UNUSED):
                file = Path(source.extract(entry, folder))
                file.chmod(entry.external_attr >> 16 & 0o777)  # Ray's programs; `extract` forgets that they can be run
                target.add(file, entry.filename)
                file.unlink()


if __name__ == "__main__":
    main()
