"""The demo page in a real browser: pictures, errors, sliders, webcam, a server that goes away."""

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from itertools import combinations

import cv2
import numpy as np
import pytest

from bodypose_client.demo.link import ServerLink
from bodypose_client.demo.server import DemoApi, demo_server
from bodypose_client.pose_client import PoseClient
from bodypose_tools.server.embedded import Ports, embedded_server
from tests.processes import free_port

pytestmark = pytest.mark.triton

MISSING_BROWSER = "needs a browser: run `apt-get install chromium chromium-driver`"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
WAIT_S = 20
READY = "ready; Ctrl-C stops it\n"
# How many pixels of the canvas have the colours of limbs; the photos of these tests are grey.
COLOURED = """
const canvas = document.getElementById("canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
let count = 0;
for (let at = 0; at < data.length; at += 4) count += Math.abs(data[at] - data[at + 2]) > 60;
return count;
"""
REQUESTS = "return performance.getEntriesByType('resource').filter(e => e.name.includes('infer'))"
GIVE = """
const [kind, type, name, text] = arguments;
const files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type }));
const event = kind === "drop"
  ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
document.getElementById("stage").dispatchEvent(event);
"""


# Keep what would be downloaded: [file name, type, text or size] of each.
KEEP = """
window.saved = [];
const blobs = new Map();
URL.createObjectURL = (blob) => {
  blobs.set("#" + blobs.size, blob);
  return "#" + (blobs.size - 1);
};
HTMLAnchorElement.prototype.click = function () {
  const blob = blobs.get(this.getAttribute("href"));
  blob.text().then((text) => saved.push([this.download, blob.type, text]));
};
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: extra `dev`")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(MISSING_BROWSER)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Page:
    """What a person sees and does."""

    def __init__(self, browser):
        self.browser = browser

    def element(self, name):
        return self.browser.find_element("id", name)

    def text(self, name):
        return self.element(name).text

    def see(self, condition, what):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, WAIT_S, 0.05).until(
            lambda _: condition(), f"expected {what}"
        )

    def see_server(self, state):
        body = self.browser.find_element("tag name", "body")
        self.see(lambda: body.get_attribute("data-server") == state, f"a server that is {state}")

    def see_people(self, count):
        self.see(
            lambda: len(self.browser.find_elements("css selector", "#people li")) == count,
            f"{count} people",
        )

    def see_alert(self, words):
        self.see(lambda: words in self.text("alert"), f"an alert: {words}")

    def pick(self, path):
        self.element("file").send_keys(str(path))

    def slide(self, name, value):
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input'))",
            name,
            value,
        )

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def requests(self):
        return len(self.run(REQUESTS))

    def problems(self):
        """The browser's own complaints, without those about answers that tell of an error."""
        return [
            entry["message"]
            for entry in self.browser.get_log("browser")
            if "Failed to load resource" not in entry["message"]
        ]


@contextlib.contextmanager
def serving_page(url):
    """The address of a page that asks the pose server at `url`."""
    with (
        contextlib.closing(ServerLink(lambda: PoseClient(url, timeout_s=5))) as link,
        demo_server(DemoApi(link, url), 0) as running,
    ):
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def page_address(server):
    with serving_page(f"grpc://{server.grpc_url}") as address:
        yield address


@pytest.fixture
def page(browser, page_address):
    return opened(browser, page_address)


def opened(browser, address):
    browser.set_window_size(1280, 800)
    browser.get(address)
    page = Page(browser)
    page.problems()
    page.see_server("up")
    return page


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """So dark that the tiny network's person stands inside, with a white lower right corner."""
    path = tmp_path_factory.mktemp("photos") / "grey.png"
    pixels = np.full((240, 360, 3), 5, np.uint8)
    pixels[-20:, -20:] = 255
    assert cv2.imwrite(str(path), pixels)
    return path


def base64_of(path):
    return base64.b64encode(path.read_bytes()).decode()


def test_a_picked_picture_is_drawn_with_its_people(page, photo):
    page.pick(photo)

    page.see_people(1)
    assert page.run(COLOURED) > 50
    assert "18/18" in page.text("people")
    assert page.text("count") == "1"
    assert "ms" in page.text("total")
    assert {"network", "preprocess", "grouping"} <= set(page.text("steps").split())
    assert not page.element("empty").is_displayed()
    assert page.problems() == []


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted(page, photo, kind):
    page.run(GIVE, kind, "image/png", "grey.png", base64_of(photo))

    page.see_people(1)
    assert page.run(COLOURED) > 50


def test_sliders_draw_again_without_asking_again(page, photo):
    page.pick(photo)
    page.see_people(1)
    asked, drawn = page.requests(), page.run(COLOURED)
    assert page.text("joint-score-value") == "0.20"  # as everywhere

    page.slide("person-score", 1)
    page.see_people(0)
    assert page.run(COLOURED) == 0
    assert "above the person score" in page.text("nobody")
    assert page.text("count") == "0 of 1"

    page.slide("person-score", 0.1)
    page.see_people(1)
    assert page.run(COLOURED) == drawn

    page.slide("joint-score", 1)
    assert page.run(COLOURED) == 0
    assert page.requests() == asked


def test_a_text_file_is_refused_in_words_with_the_servers_line_behind_them(page, photo, tmp_path):
    page.pick(photo)
    page.see_people(1)
    notes = tmp_path / "<img src=x onerror=alert(1)>.txt"
    notes.write_text("<b>hello</b>")

    page.pick(notes)

    page.see_alert("It is not a JPEG, PNG, WebP or BMP picture.")
    assert f"{notes.name} was not accepted" in page.text("alert")
    assert "b'" not in page.text("alert")  # no Python, until somebody asks for it
    page.browser.find_element("css selector", "#alert summary").click()
    assert "got 12 bytes starting with b'<b>hello'" in page.text("alert")
    assert page.run("return document.querySelectorAll('#alert img, #alert b').length") == 0
    assert page.run(COLOURED) > 50  # the picture before is still there
    page.element("alert-close").click()
    assert not page.element("alert").is_displayed()
    assert page.problems() == []


def test_the_webcam_shows_people_frame_after_frame(page):
    page.element("webcam").click()
    page.see(lambda: "/ s" in page.text("total"), "frames a second")
    page.see_people(1)
    assert page.element("live").is_displayed()
    asked = page.requests()
    page.see(lambda: page.requests() > asked + 2, "more frames")

    page.element("webcam").click()

    page.see(lambda: not page.element("live").is_displayed(), "the end of the webcam")
    assert page.problems() == []


def test_the_picture_and_its_people_can_be_saved(page, photo):
    page.pick(photo)
    page.see_people(1)
    page.run(KEEP)

    page.element("save-json").click()
    page.element("save-picture").click()

    page.see(lambda: page.run("return saved.length") == 2, "two files")
    saved = {name: (kind, text) for name, kind, text in page.run("return saved")}
    kind, text = saved["grey-poses.json"]
    assert kind == "application/json"
    assert json.loads(text)["image"] == {"id": "grey.png", "width": 360, "height": 240}
    kind, text = saved["grey-poses.png"]
    assert kind == "image/png"
    assert text[1:4] == "PNG"


def colours_of_limbs(page, x, y):
    """The canvas' red, green, blue at image pixels x, y."""
    return tuple(
        page.run(
            "const c = document.getElementById('canvas'); const s = c.width / arguments[2];"
            "return [...c.getContext('2d').getImageData(arguments[0] * s, arguments[1] * s, 1, 1)"
            ".data].slice(0, 3)",
            *(x, y, 720),
        )
    )


@pytest.fixture
def real_page(browser, shipped):
    """The page before the shipped model."""
    with serving_page(f"grpc://{shipped.grpc_url}") as address:
        yield opened(browser, address)


def test_a_click_on_an_example_shows_people_in_colours_of_their_own(real_page):
    page = real_page
    page.browser.find_element("css selector", "#empty [data-example='friends.jpg']").click()

    page.see_people(4)
    assert "18/18" in page.text("people")
    thighs = [(130, 283), (277, 281), (405, 238), (569, 280)]  # of the picture's four people
    apart = {colours_of_limbs(page, x, y) for x, y in thighs}
    assert len(apart) == 4
    assert not page.browser.find_element("css selector", ".sides").is_displayed()

    page.element("apart").click()

    same = [colours_of_limbs(page, x, y) for x, y in thighs]  # all are right thighs
    assert np.ptp(same, axis=0).max() < 30  # less sure ones are fainter
    assert min(np.ptp(pair, axis=0).max() for pair in combinations(apart, 2)) > 60
    assert page.browser.find_element("css selector", ".sides").is_displayed()
    page.element("apart").click()
    assert {colours_of_limbs(page, x, y) for x, y in thighs} == apart


def test_the_other_examples_stand_below_the_picture(real_page):
    page = real_page
    page.browser.find_element("css selector", "#empty [data-example='friends.jpg']").click()
    page.see_people(4)
    for name, people in {"yoga.jpg": 3, "run.jpg": 6}.items():
        page.browser.find_element("css selector", f".actions [data-example='{name}']").click()
        page.see_people(people)
    assert page.problems() == []


def test_one_person_alone_has_the_colours_of_left_and_right(page, photo):
    page.pick(photo)
    page.see_people(1)
    assert page.browser.find_element("css selector", ".sides").is_displayed()


def test_the_page_tells_the_server_and_its_model(page):
    facts = page.text("server-facts")
    assert "Triton 2." in facts
    assert "bodypose, version 1" in facts
    assert "18 joints" in facts


def test_a_pointed_at_person_stands_out(page, photo):
    page.pick(photo)
    page.see_people(1)
    corner = (
        "const c = document.getElementById('canvas');"
        "return c.getContext('2d').getImageData(c.width - 2, c.height - 2, 1, 1).data[0]"
    )
    before = page.run(corner)

    page.browser.find_element("css selector", "#people button").click()

    assert page.run(corner) < before - 20  # everything else is darker


def test_it_fits_a_phone(page, photo):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        page.pick(photo)
        page.see_people(1)
        page.see(lambda: page.run("return innerWidth") == 390, "a phone")

        assert page.run("return document.scrollingElement.scrollWidth") == 390
        assert page.run("return document.getElementById('canvas').width") > 600  # sharp
        for name in ("file", "webcam", "save-picture", "person-score", "joint-score"):
            box = page.element(name).rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
            assert box["height"] >= 24
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_goes_away_is_said_and_its_return_noticed(browser, repository, photo):
    ports = Ports(grpc=free_port())
    with serving_page(f"grpc://127.0.0.1:{ports.grpc}") as address:
        with embedded_server(repository, ports):
            page = opened(browser, address)
            page.pick(photo)
            page.see_people(1)
            page.slide("person-score", 1)
            page.see_people(0)

        page.see_server("away")
        page.see_alert("No pose server answers at this address. Start one with `tools serve`.")
        assert "'Connection refused'" not in page.text("alert")
        page.slide("person-score", 0.1)  # what is there can still be looked at
        page.see_people(1)
        asked = page.requests()
        page.pick(photo)
        page.see_alert("Your picture is sent as soon as it is back")

        with embedded_server(repository, ports):
            page.see_server("up")
            page.see(lambda: not page.element("alert").is_displayed(), "no alert")
            page.see(lambda: page.requests() >= asked + 2, "the picture sent again")
            page.see_people(1)
            assert page.problems() == []


@contextlib.contextmanager
def demo_command(url, port):
    """`pose-client demo` in its own process; ended by Ctrl-C."""
    main = "from bodypose_client.cli import main; main()"
    options = ["demo", "--port", str(port), "--url", url]
    command = subprocess.Popen(
        [sys.executable, "-c", main, *options], stdout=subprocess.PIPE, text=True
    )
    with command:
        try:
            said = [command.stdout.readline() for _ in range(3)]
            assert said == [f"page    http://127.0.0.1:{port}\n", f"server  {url}\n", READY]
            yield
        finally:
            command.send_signal(signal.SIGINT)
            assert command.wait(WAIT_S) == 0


@pytest.mark.usefixtures("ctrl_c")
def test_the_pages_own_server_may_end_and_come_back_too(browser, server):
    port, url = free_port(), f"grpc://{server.grpc_url}/bodypose"
    with demo_command(url, port):
        page = opened(browser, f"http://127.0.0.1:{port}")

    page.see_server("away")
    page.see_alert("Run `pose-client demo` again")

    with demo_command(url, port):
        page.see_server("up")
        page.see(lambda: not page.element("alert").is_displayed(), "no alert")
