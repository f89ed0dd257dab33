#!/usr/bin/env python3
"""Put the OHIF viewer into label_app/ohif/dist: `python label_app/ohif/install.py`. Needs npm and Python 3.11.

The viewer is the npm package @ohif/app, which carries a built viewer. It is fetched by npm (so from whatever registry
npm is set to), checked against the SHA-512 below, unpacked without the parts that are not used, and told that it lives
under /ohif/ and not under /. Our own files (web/) stay where they are: the server shows them over those of the
package. A second run finds it in place and does nothing.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.13.2"
# Of the package file, as npm prints it
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
BASE = "/ohif/"  # where the server shows the viewer; app-config.js says the same
HERE = Path(__file__).resolve().parent
DIST = HERE / "dist"
MARK = "installed.json"  # written last: which package and base the folder holds

# Not used here: models of another segmenter (136 MB), the slide microscope, source maps, the offline worker
# (a cached viewer would outlive an update).
UNUSED = re.compile(
    r"^(ort/|dicom-microscopy-viewer/|customizations/|sw\.js$|_headers$|_redirects$|google\.js$)|\.map$"
)


class InstallError(RuntimeError):
    """The viewer could not be installed; the message says what was found and what to do."""


def fetch(folder: Path) -> Path:
    """Let npm fetch the package file into a folder -> its path."""
    if shutil.which("npm") is None:
        raise InstallError("npm was not found; install Node.js (Debian: apt-get install npm) and run this again")
    command = ["npm", "pack", f"@ohif/app@{VERSION}", "--pack-destination", str(folder), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    files = sorted(folder.glob("*.tgz"))
    if done.returncode or len(files) != 1:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise InstallError(f"npm could not fetch @ohif/app {VERSION} (exit code {done.returncode}):\n{said}")
    return files[0]


def check(package: Path) -> None:
    """Compare a package file with the pinned SHA-512. Raises InstallError if it is another file."""
    with package.open("rb") as stream:
        digest = base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise InstallError(
            f"{package.name}: its SHA-512 is sha512-{digest}, expected {INTEGRITY}: not the file that this app was "
            "tried with. Remove it, and fetch it from a registry that you trust"
        )


def unpack(package: Path, folder: Path) -> None:
    """Unpack the built viewer, package/dist/*, without what is not used."""
    with tarfile.open(package) as archive:
        for member in archive:
            if not member.isfile() or not member.name.startswith("package/dist/"):
                continue
            name = member.name.removeprefix("package/dist/")
            if UNUSED.search(name):
                continue
            member.name = name
            archive.extract(member, folder, filter="data")


def move_to_base(folder: Path, base: str = BASE) -> None:
    """Rewrite the places where the built viewer expects to be served from /.

    Raises InstallError if the files do not look as they did in the pinned version.
    """
    index = folder / "index.html"
    page = index.read_text(encoding="utf-8")
    page, links = re.subn(r'((?:href|src|content)=")/(?!/)', rf"\g<1>{base}", page)
    page, urls = re.subn(r'window\.PUBLIC_URL="/"', f'window.PUBLIC_URL="{base}"', page)
    if links < 5 or urls < 1:
        raise InstallError(f"{index}: {links} links and {urls} base addresses found, expected at least 5 and 1")
    index.write_text(page, encoding="utf-8")
    for pattern, found, moved in (
        ("*.js", '__webpack_require__.p = "/";', f'__webpack_require__.p = "{base}";'),
        ("*.css", "url(/", f"url({base}"),
        ("manifest.json", '"/assets/', f'"{base}assets/'),
    ):
        changed = 0
        for path in sorted(folder.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            if found in text:
                path.write_text(text.replace(found, moved), encoding="utf-8")
                changed += 1
        if not changed:
            raise InstallError(f"{folder}: no {pattern} holds {found!r}; is this @ohif/app {VERSION}?")


def installed(folder: Path = DIST) -> bool:
    """Whether the folder holds this version, complete."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return mark == {"package": f"@ohif/app@{VERSION}", "integrity": INTEGRITY, "base": BASE}


def install(package: Path | None = None, folder: Path = DIST, force: bool = False) -> None:
    """Fetch (unless a package file is given), check, unpack, move; the folder appears whole or not at all."""
    if force or not installed(folder):
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-ohif-") as name:
            if package is None:
                package = fetch(Path(name))
            check(package)
            fresh = Path(name) / "dist"
            fresh.mkdir()
            unpack(package, fresh)
            move_to_base(fresh)
            mark = {"package": f"@ohif/app@{VERSION}", "integrity": INTEGRITY, "base": BASE}
            (fresh / MARK).write_text(json.dumps(mark), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(name) / "old")
            fresh.rename(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, help="the package file, where npm has no registry to ask")
    parser.add_argument("--force", action="store_true", help="unpack again even if it is there")
    arguments = parser.parse_args()
    try:
        install(arguments.package, force=arguments.force)
    except (InstallError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"OHIF {VERSION} lies in {DIST}; the label app shows it at {BASE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
