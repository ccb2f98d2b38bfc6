"""Links that are right on GitHub are right on the site.

A page links to other files of the repository by their relative path. Pages outside ``docs/`` are published
under ``project/``, and so are other files that a page links to, as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "THIRD_PARTY_NOTICES.md", "deploy/README.md")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Publish the pages outside ``docs/``, and the files that any page links to."""
    for name in PAGES:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text("utf-8")))
    for file in list(files.documentation_pages()):
        for target, _ in LINK.findall(file.content_string):
            linked = _in_repository(file.src_uri, target)
            source = ROOT / linked
            if _on_site(linked).startswith("project/") and source.is_file() and linked not in PAGES:
                published = File.generated(config, _on_site(linked), abs_src_path=str(source))
                if files.get_file_from_path(published.src_uri) is None:
                    files.append(published)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn each link between files of the repository into one between pages of the site."""
    here = page.file.src_uri

    def site_link(found: re.Match[str]) -> str:
        target = _on_site(_in_repository(here, found[1]))
        return posixpath.relpath(target, posixpath.dirname(here) or ".") + (found[2] or "")

    return LINK.sub(site_link, markdown)


def _in_repository(page: str, target: str) -> str:
    """The file that a page links to, from the repository's root."""
    published = page.removeprefix("project/") if page.startswith("project/") else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(published), target))


def _on_site(path: str) -> str:
    """A file of the repository, from the site's root."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path.replace('/.', '/').removeprefix('.')}"  # MkDocs leaves out hidden files
