"""A person at a node's widgets, with real clicks and keys."""

# The middle of a widget on the screen, as the canvas draws it.
PLACE = """
(name) => {
  const { canvas, ds } = window.app.canvas;
  const node = window.app.graph._nodes[0];
  const widget = node.widgets.find((w) => w.name === name);
  const box = canvas.getBoundingClientRect();
  const [x, y] = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10];
  return [box.left + (x + ds.offset[0]) * ds.scale, box.top + (y + ds.offset[1]) * ds.scale];
}
"""


class Canvas:
    """A person at the canvas as it draws nodes itself."""

    def __init__(self, page):
        self.page = page

    def choose(self, name, option):
        self.page.mouse.click(*self.page.evaluate(PLACE, name))
        self.page.locator(".litecontextmenu .litemenu-entry").get_by_text(option, exact=True).click()
        self.page.wait_for_timeout(200)

    def type(self, name, text):
        self.page.mouse.click(*self.page.evaluate(PLACE, name))
        field = self.page.locator(".graphdialog input")
        field.fill(text)
        field.press("Enter")
        self.page.wait_for_timeout(200)


class Nodes2:
    """The same person with Nodes 2.0, where widgets are elements of the page."""

    def __init__(self, page):
        self.page = page

    def _row(self, name):
        return self.page.locator("[data-node-id] .lg-node-widget", has=self.page.get_by_text(name, exact=True))

    def choose(self, name, option):
        self._row(name).locator("[role=combobox]").click()
        self.page.get_by_role("option", name=option, exact=True).click()
        self.page.wait_for_timeout(200)

    def type(self, name, text):
        # Such a field follows the keys, not the element's value. Newer frontends lay a handle to drag over it, which
        # passes a click on: force, because playwright takes that for an obstacle.
        self._row(name).locator("input").click(force=True)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Tab")
        self.page.wait_for_timeout(200)
