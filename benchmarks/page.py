"""What the benchmarks have in common: the machine they ran on and the page that they write."""

from __future__ import annotations

import configparser
import os
import pathlib
import platform

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
TITLE = "# Benchmarks"
LAST = "By hand"


def machine() -> str:
    """Return the machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    model = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), platform.processor()
    )
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"


def keys(credentials_file: str, profile: str) -> tuple[str, str]:
    """Return (access key id, secret access key) of a profile of the lab's store."""
    parser = configparser.ConfigParser(default_section=None)
    parser.read(credentials_file)
    return parser[profile]["aws_access_key_id"], parser[profile]["aws_secret_access_key"]


def write_section(heading: str, lines: list[str]) -> None:
    """Put ``lines`` below ``## heading`` in the page in place of what is there; the other sections stay, "By hand" last."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else TITLE + "\n"
    top, *parts = text.split("\n## ")
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}
    sections[heading] = "\n".join(lines).strip()
    ordered = sorted(sections, key=lambda name: name == LAST)
    PAGE.write_text(top.strip() + "\n" + "".join(f"\n## {name}\n\n{sections[name]}\n" for name in ordered), encoding="utf-8")
