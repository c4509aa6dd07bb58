"""What the build does to the README: on PyPI a relative link would lead nowhere."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)\[[^]]*\]\((?![a-z]+:|#)")


class Readme(MetadataHookInterface):
    """Makes the links and pictures of the README addresses of this version's files."""

    def update(self, metadata: dict) -> None:
        """Set `readme`. Hatchling has set `version` before."""
        source, tag = metadata["urls"]["Source"], f"v{metadata['version']}"
        pages = f"{source}/blob/{tag}/"
        pictures = f"{source.replace('github.com', 'raw.githubusercontent.com')}/{tag}/"
        absolute = lambda link: link[0] + (pictures if link[1] else pages)
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": RELATIVE.sub(absolute, text),
        }
