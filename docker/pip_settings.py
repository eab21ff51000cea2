"""Carries this machine's pip settings into an image build, without leaving any of them in the image.

    python3 docker/pip_settings.py FOLDER

writes FOLDER/pip.conf (and FOLDER/pip_ca, the CA bundle, if one is set) and prints the arguments, one a line, that
`buildah bud` needs to show them to the Dockerfile's pip: secrets, and a read-only volume for each index or wheel folder
that lies on this machine's disk.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

CARRIED = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout")
IN_BUILD_CA = "/run/secrets/pip_ca"


def host_settings() -> dict[str, str]:
    """pip's own view of its settings; the environment overrides the files, as in pip."""
    command = (sys.executable, "-m", "pip", "config", "list")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        value = quoted.strip("'\"").replace("\\n", " ")
        if section == ":env:" or (
            section in {"global", "install"} and f":env:.{name}" not in listed
        ):
            settings[name] = value
    return settings


def local_folder(location: str) -> Path | None:
    """The folder on this disk that an index or link location needs; None if it is elsewhere."""
    parts = urlsplit(location)
    if parts.scheme not in {"", "file"}:
        return None
    folder = Path(unquote(parts.path)).expanduser()
    # A package index of this form keeps its files beside the folder of its pages.
    folder = folder.parent if folder.name == "simple" else folder
    return folder if folder.exists() else None


def main() -> None:
    """Write the settings and print the arguments."""
    folder = Path(sys.argv[1])
    settings = host_settings()
    lines = ["[global]"]
    arguments = ["--secret", f"id=pip_conf,src={folder / 'pip.conf'}"]
    for name in CARRIED:
        if name in settings:
            lines.append(f"{name} = {settings[name]}")
            for location in settings[name].split():
                local = local_folder(location) if "/" in location else None
                if local is not None:
                    arguments += ["--volume", f"{local}:{local}:ro"]
    if "cert" in settings:
        shutil.copyfile(settings["cert"], folder / "pip_ca")
        lines.append(f"cert = {IN_BUILD_CA}")
        arguments += ["--secret", f"id=pip_ca,src={folder / 'pip_ca'}"]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*arguments, sep="\n")


if __name__ == "__main__":
    main()
