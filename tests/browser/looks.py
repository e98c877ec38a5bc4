"""What an eye would complain of: text that is cut off, small controls, sideways scrolling."""


def wider_than_the_screen(page) -> list[str]:
    """What makes the page scroll sideways."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            [...document.querySelectorAll("body *")]
                .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
                .map((one) => one.outerHTML.slice(0, 80))"""
    )


def cut_off(page, inside: str) -> list[str]:
    """The texts inside an element that are not seen whole."""
    return page.evaluate(
        """(inside) => [...document.querySelectorAll(inside)].flatMap((whole) => {
            const edge = whole.getBoundingClientRect(), cut = [];
            const walker = document.createTreeWalker(whole, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const node = walker.currentNode;
                if (!node.textContent.trim() || node.parentElement.closest("style")) continue;
                const range = document.createRange();
                range.selectNodeContents(node);
                const text = range.getBoundingClientRect();
                if (text.width === 0) continue;
                let box = edge;
                for (let one = node.parentElement; one !== whole; one = one.parentElement) {
                    if (getComputedStyle(one).overflowX !== "visible") {
                        box = one.getBoundingClientRect();
                        break;
                    }
                }
                const over = Math.max(box.left - text.left, text.right - box.right);
                if (over > 1) cut.push(`${node.textContent.trim()} (${over.toFixed(0)} px)`);
            }
            return cut;
        })""",
        inside,
    )


def small_controls(page, inside: str, least: int = 24) -> list[str]:
    """The controls inside an element that are lower or narrower than `least` pixels."""
    return page.evaluate(
        """([inside, least]) => [...document.querySelectorAll(
            ["button", "input", "select", "[role=slider]"].map((one) => `${inside} ${one}`).join())]
            .filter((one) => one.checkVisibility())
            .map((one) => [one, one.getBoundingClientRect()])
            .filter(([, box]) => box.width < least || box.height < least)
            .map(([one, box]) => `${one.outerHTML.slice(0, 80)}: ${box.width} × ${box.height}`)""",
        [inside, least],
    )
