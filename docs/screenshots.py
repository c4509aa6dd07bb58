"""Pictures of a report in a browser, for the pages of docs: `python docs/screenshots.py FOLDER`.

FOLDER is that of a race, and its report is there; docs/report.md says which race. Needs Debian's
chromium, and playwright (the extra `clients`).
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).parent / "images"
SIZES = {360: 780, 800: 900, 1400: 900}  # a telephone, a tablet, a screen: width and height
COLOURS = 128  # of a picture; more are not seen, and cost half again as many bytes
MOST = 150_000  # bytes of a picture


def main(folder: Path) -> None:
    """Take every picture of the report in the folder."""
    address = (folder / "report.html").resolve().as_uri()
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, height in SIZES.items():
            for scheme in ("light", "dark"):
                take(browser, address, width, height, scheme)
        browser.close()


def take(browser: Browser, address: str, width: int, height: int, scheme: str) -> None:
    """Take the top of the page, and what it shows first inside the optimizers."""
    size = {"width": width, "height": height}
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    page.on("console", lambda message: sys.exit(f"the page complains: {message.text}"))
    page.on("pageerror", lambda error: sys.exit(f"the page fails: {error}"))
    page.goto(address)
    write(f"report-{width}-{scheme}", page.screenshot())
    page.locator("section.inside").first.scroll_into_view_if_needed()
    page.evaluate("document.querySelector('section.inside').scrollIntoView()")
    write(f"inside-{width}-{scheme}", page.screenshot())


def write(name: str, content: bytes) -> None:
    """Write a picture in few colours."""
    picture = Image.open(io.BytesIO(content)).convert("RGB").quantize(COLOURS)
    path = IMAGES / f"{name}.png"
    picture.save(path, optimize=True)
    print(path, path.stat().st_size)
    if path.stat().st_size > MOST:
        sys.exit(f"{path} is larger than {MOST:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
