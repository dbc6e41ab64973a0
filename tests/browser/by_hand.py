"""A person at the frontend: what mouse and keys can do, with nodes drawn on the canvas."""

from playwright.sync_api import TimeoutError as NotInTime

from scripts.comfyui_server import ROOT

SCREENSHOTS = ROOT / ".cache" / "screenshots"
# Where a dot, a widget or a title of a node stands on the screen.
PLACE = """
([type, part, name]) => {
  const { canvas, ds } = window.app.canvas;
  const node = window.app.graph._nodes.findLast((n) => n.type === type);
  const named = (list) => list.findIndex((each) => each.name === name);
  const [x, y] =
    part === "title" ? [node.pos[0] + 60, node.pos[1] - 15]
    : part === "widgets" ? [node.pos[0] + node.size[0] / 2, node.pos[1] + node.widgets[named(node.widgets)].y + 10]
    : node.getConnectionPos(part === "inputs", named(node[part]));
  const box = canvas.getBoundingClientRect();
  return [box.left + (x + ds.offset[0]) * ds.scale, box.top + (y + ds.offset[1]) * ds.scale];
}
"""
EMPTY = (950, 780)  # where nothing stands while a node is searched
TYPES = "() => window.app.graph._nodes.map((node) => node.type)"
POSTED = "async () => Object.values((await window.app.graphToPrompt()).output)"


class Person:
    def __init__(self, page, name: str):
        """name: of the screenshots that are taken on the way."""
        self.page = page
        self._name = name
        self._taken = 0

    def click(self, x, y):
        """Comes from aside, so that what hung at the last place (a tooltip) goes."""
        self.page.mouse.move(x - 30, y)
        self.page.mouse.move(x, y, steps=3)
        self.page.wait_for_timeout(150)
        self.page.mouse.click(x, y)
        self.page.wait_for_timeout(150)

    def drag(self, start, end):
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(start[0] + 6, start[1] + 6)
        self.page.mouse.move(*end, steps=12)
        self.page.wait_for_timeout(200)
        self.page.mouse.up()
        self.page.wait_for_timeout(300)

    def new_workflow(self):
        self.page.get_by_role("button", name="Create a new blank workflow").click()
        self.page.wait_for_function(f"() => ({TYPES})().length === 0")
        self.page.wait_for_timeout(500)

    def open_library(self, search):
        self.page.get_by_role("button", name="Node Library").click()
        self.page.get_by_placeholder("Search Nodes...").click()
        self.page.keyboard.type(search)

    def drag_in(self, title, spot):
        """A node from the library to a spot on the canvas."""
        entry = self.page.locator(".p-tree-node-leaf, [role=treeitem]").get_by_text(title, exact=True)
        entry.scroll_into_view_if_needed()
        box = entry.bounding_box()
        self._adding(lambda: self.drag((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), spot))

    def search_in(self, title, spot):
        """The same by a double click on the canvas and the box that it opens, then by its title to the spot.

        Newer frontends hang it on the pointer until a click puts it down.
        """
        self._open_search()
        self.page.keyboard.type(title)
        self.page.get_by_role("option", name=title).or_(self.page.locator("[data-testid=result-item]")).first.wait_for()
        self.page.wait_for_timeout(500)
        self._adding(lambda: self.page.keyboard.press("Enter"))
        self.click(*EMPTY)
        self.page.wait_for_timeout(600)  # or with the next click it would be a double one, which edits the title
        self.drag(self.place(self.page.evaluate(TYPES)[-1], "title"), spot)

    def _open_search(self):
        """A busy machine tells the two clicks too late for a double one: then again, as a person would."""
        for again in (True, True, False):
            self.page.mouse.dblclick(*EMPTY)
            try:
                self.page.wait_for_function("() => document.activeElement.tagName === 'INPUT'", timeout=10_000)
                return
            except NotInTime:
                if not again:
                    raise

    def _adding(self, action):
        count = len(self.page.evaluate(TYPES))
        action()
        self.page.wait_for_function(f"() => ({TYPES})().length === {count + 1}")
        self.page.wait_for_timeout(300)

    def place(self, node, part, name=""):
        return self.page.evaluate(PLACE, [node, part, name])

    def wire(self, source, output, target, name):
        self.drag(self.place(source, "outputs", output), self.place(target, "inputs", name))

    def select(self, node):
        self.click(*self.place(node, "title"))

    def press(self, node, button):
        self.click(*self.place(node, "widgets", button))

    def write(self, node, widget, value):
        self.press(node, widget)
        self.page.locator(".graphdialog input").wait_for()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(str(value))
        self.page.keyboard.press("Enter")
        self.page.wait_for_timeout(200)

    def write_text(self, node, text):
        """Into the text field of a node that has one."""
        self.click(*self.place(node, "widgets", "text"))
        self.page.keyboard.type(text)

    def run(self):
        """Presses Run; the id of the prompt that was posted."""
        with self.page.expect_response(lambda it: it.url.endswith("/prompt") and it.request.method == "POST") as answer:
            self.page.get_by_role("button", name="Run", exact=True).first.click()
        return answer.value.json()["prompt_id"]

    def posted(self, node):
        """The inputs that ComfyUI would post for a node."""
        return next(each["inputs"] for each in self.page.evaluate(POSTED) if each["class_type"] == node)

    def shoot(self, moment):
        self._taken += 1
        self.page.screenshot(path=SCREENSHOTS / f"{self._name}_{self._taken}_{moment}.png")
