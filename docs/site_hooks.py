"""Hooks of the site: links to files that are no pages become names, since the site knows no address of them."""

import logging
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^\]]*)\]\((\.\./[^()\s#]+)(?:#[^()\s]*)?\)")
FENCE = re.compile(r"^```python notest$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks")


def on_page_markdown(markdown: str, page, **_: object) -> str:
    """Rewrite a page before it is rendered; a link to no file is a warning, which ends a strict build."""

    def name(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = (ROOT / "docs" / target).resolve()
        if not path.exists():
            log.warning("%s: links to %s, which is not in the repository", page.file.src_path, target)
        place = path.relative_to(ROOT).as_posix()
        return f"`{place}`" if text.strip("`") in (place, path.name) else f"{text} (`{place}`)"

    return OUTSIDE.sub(name, FENCE.sub("```python", markdown))
