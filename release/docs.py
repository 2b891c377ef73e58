"""Build the site of the docs for this version beside those of other versions, with a list to choose from.

    python release/docs.py FOLDER [--version 0.3.0]

FOLDER/0.3.0 is the site; FOLDER/versions.json lists what there is, the newest first, as the version menu of
mkdocs-material reads it; FOLDER/index.html leads to the newest. FOLDER is what a web server shows: the menu is filled
over HTTP, and is empty where a page is opened as a file. A version that is there is built anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
LEADS = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}/index.html">\n' \
        '<title>{0}</title><a href="{0}/index.html">{0}</a>\n'  # fmt: skip


def own_version() -> str:
    """That of the package."""
    text = (ROOT / "src/bothways/version.py").read_text(encoding="utf-8")
    return text.partition('"')[2].partition('"')[0]


def built(folder: Path, version: str, settings: Path = ROOT / "mkdocs.yml") -> Path:
    """The site of a version in FOLDER/VERSION, every link checked. Raises mkdocs' Abort where one leads nowhere."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    site = folder / str(Version(version))
    config = load_config(str(settings), site_dir=str(site), strict=True)
    config.extra["version"] = {"provider": "mike"}  # the form of versions.json that the theme knows
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return site


def versions(folder: Path) -> list[str]:
    """The sites in a folder, the newest version first; other folders are left alone."""
    found = []
    for site in folder.iterdir():
        try:
            found.append(Version(site.name))
        except InvalidVersion:
            continue
    return [str(version) for version in sorted(found, reverse=True) if (folder / str(version) / "index.html").is_file()]


def listed(folder: Path) -> None:
    """Write the list of versions and the page that leads to the newest; one that is not released counts as older."""
    there = versions(folder)
    text = json.dumps([{"version": name, "title": name, "aliases": []} for name in there], indent=1)
    (folder / "versions.json").write_text(text + "\n", encoding="utf-8")
    newest = next((name for name in there if not Version(name).is_prerelease), there[0])
    (folder / "index.html").write_text(LEADS.format(newest), encoding="utf-8")


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("folder", type=Path)
    given.add_argument("--version", default=own_version(), help="as in 0.3.0; that of the package where left out")
    told = given.parse_args()
    try:
        Version(told.version)
    except InvalidVersion:
        given.error(f"--version {told.version}: no version; type one such as 0.3.0")
    print(built(told.folder.resolve(), told.version))
    listed(told.folder.resolve())


if __name__ == "__main__":
    main()
