"""What is measured of a page that was built: requests, equations, sizes, what does not fit."""

from dataclasses import dataclass, field

SLIDE = (1280, 720)


@dataclass
class Seen:
    """What happened while a page was open: addresses asked for, failures, what the console says."""

    asked: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def outside(self, home: str) -> list[str]:
        """The addresses that do not begin with `home` and are not part of the page itself."""
        inside = (home, "data:", "blob:", "about:")
        return [address[:100] for address in self.asked if not address.startswith(inside)]


    def forget(self) -> None:
        """Begins anew."""
        for one in (self.asked, self.failed, self.said):
            one.clear()


def watch(context) -> Seen:
    """Notes what all pages of a browser's context ask for, what fails, what their consoles say."""
    seen = Seen()
    context.on("request", lambda request: seen.asked.append(request.url))
    context.on("requestfailed", lambda request: seen.failed.append(request.url[:100]))
    context.on("response", lambda got: got.status >= 400 and seen.failed.append(got.url[:100]))
    context.on("console", lambda said: said.type != "log" and seen.said.append(said.text))
    context.on("weberror", lambda error: seen.said.append(str(error.error)))
    return seen


def bare_equations(page) -> list[str]:
    """Equations that are not seen as such: LaTeX in the text, and `<math>` without a size.

    Code may have `$` and backslashes; closed details and slides that do not show have no size.
    """
    return page.evaluate(
        r"""() => {
            const found = [];
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const node = walker.currentNode;
                if (node.parentElement.closest("pre, code, script, style")) continue;
                if (/\$|\\[a-zA-Z]+/.test(node.textContent)) found.push(node.textContent.trim());
            }
            for (const math of document.querySelectorAll("math")) {
                if (math.closest("details:not([open]), aside.notes")) continue;
                const box = math.getBoundingClientRect();
                if (box.width < 4 || box.height < 4) found.push(math.outerHTML.slice(0, 80));
            }
            return found;
        }"""
    )


def unshown_pictures(page) -> list[str]:
    """Pictures that are not there, or that nothing describes."""
    return page.evaluate(
        """async () => {
            const images = [...document.querySelectorAll("img")];
            images.forEach((image) => { image.loading = "eager"; });
            await Promise.all(images.map((image) => image.decode().catch(() => 0)));
            return images.filter((image) => !image.naturalWidth || image.alt.length < 40)
                .map((image) => image.outerHTML.slice(0, 100));
        }"""
    )


def show_all_slides(page) -> None:
    """Shows every slide of a deck at once, one below the other, with all that appears on it."""
    page.wait_for_function("window.Reveal?.isReady()")
    page.evaluate(
        """() => {
            const style = document.createElement("style");
            style.textContent = `.reveal .slides > section { display: block !important;
                position: static !important; visibility: visible !important; opacity: 1 !important;
                transform: none !important; }
                .reveal .slides { position: static !important; transform: none !important;
                    zoom: 1 !important; width: 1280px !important; height: auto !important; }
                .fragment { opacity: 1 !important; visibility: visible !important; }`;
            document.head.append(style);
            document.querySelectorAll("section").forEach((one) => { one.hidden = false; });
        }"""
    )


def slides_that_do_not_fit(page) -> list[str]:
    """What is wider or higher than its slide, smaller than the back row can read, or no figure
    any more; `show_all_slides` comes first."""
    return page.evaluate(
        """([width, height]) => [...document.querySelectorAll(".slides > section")].flatMap(
            (section, number) => {
                const slide = section.querySelector(".slide"), bad = [];
                if (!slide) return [`${number + 1}: no slide`];
                const edge = slide.getBoundingClientRect();
                if (Math.abs(edge.width - width) > 1 || Math.abs(edge.height - height) > 1)
                    bad.push(`is ${edge.width} × ${edge.height}`);
                if (slide.scrollWidth > width || slide.scrollHeight > height)
                    bad.push(`needs ${slide.scrollWidth} × ${slide.scrollHeight}`);
                for (const one of slide.querySelectorAll("*")) {
                    if (one.closest("math") && one.tagName !== "math") continue;
                    const box = one.getBoundingClientRect();
                    if (box.right > edge.right + 1 || box.bottom > edge.bottom + 1)
                        bad.push(`${one.tagName} is cut off`);
                    if (one.scrollWidth > one.clientWidth + 1 && one.clientWidth
                        && getComputedStyle(one).overflowX !== "visible")
                        bad.push(`${one.tagName} scrolls`);
                }
                const walker = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) {
                    const node = walker.currentNode, parent = node.parentElement;
                    if (!node.textContent.trim() || parent.closest("style")) continue;
                    const math = parent.closest("math"), within = (kind) => parent.closest(kind);
                    const size = parseFloat(getComputedStyle(math || parent).fontSize);
                    const least = within(".printed") ? 18 : within(".source, table") ? 20 : 28;
                    const text = node.textContent.trim().slice(0, 40);
                    if (size < least) bad.push(`${size} px: ${text}`);
                }
                for (const image of slide.querySelectorAll("figure img")) {
                    const box = image.getBoundingClientRect();
                    const scale = Math.min(box.width / image.naturalWidth,
                                           box.height / image.naturalHeight);
                    if (scale < 0.75) bad.push(`a figure at ${(100 * scale).toFixed(0)} %`);
                }
                return [...new Set(bad)].map((one) => `slide ${number + 1}: ${one}`);
            })""",
        SLIDE,
    )


def serious(results) -> list[str]:
    """What axe calls a serious or a critical fault, with the first element that has it."""
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in results.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
