"""Headless Chromium by the WebDriver protocol (W3C), and an origin that serves pages to it."""

import contextlib
import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

START_SECONDS_MAX = 60
FILE_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


def missing():
    """Why there is no browser; None: there is one."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (./dev e2e installs them)" if absent else None


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self, folder):
        self.log = open(folder / "chromedriver.log", "wb")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=self.log)
        self.session = None
        try:
            line = b""
            while not (found := re.search(rb"successfully on port (\d+)", line)):
                line = self.driver.stdout.readline()
                assert line, "chromedriver ended"
            self.url = f"http://127.0.0.1:{int(found[1])}"
            threading.Thread(target=self.driver.stdout.read, daemon=True).start()
            options = {
                "args": [
                    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
                    f"--user-data-dir={folder / 'profile'}",
                ]
            }
            wanted = {"browserName": "chrome", "acceptInsecureCerts": True, "goog:chromeOptions": options}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{made['sessionId']}"
            self._call("POST", f"{self.session}/timeouts", {"script": 60000, "pageLoad": 60000})
        except BaseException:
            self.close()
            raise

    def _call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS_MAX + 30) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(error.read().decode()[:2000]) from None

    def open(self, url):
        self._call("POST", f"{self.session}/url", {"url": url})

    @property
    def location(self):
        return self._call("GET", f"{self.session}/url")

    def run(self, script, *arguments):
        """Run the body of an async function; its `arguments` are those given here. Returns its value."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async function() {{ {script} }}).apply(null, arguments)"
            ".then(value => done([value, null]), error => done([null, String(error)]));"
        )
        value, error = self._call(
            "POST", f"{self.session}/execute/async", {"script": wrapped, "args": list(arguments)}
        )
        if error is not None:
            raise BrowserError(error)
        return value

    def choose_file(self, selector, path):
        found = self._call("POST", f"{self.session}/element", {"using": "css selector", "value": selector})
        self._call("POST", f"{self.session}/element/{found[FILE_ELEMENT]}/value", {"text": str(path)})

    def close(self):
        if self.session is not None:
            with contextlib.suppress(OSError, BrowserError):
                self._call("DELETE", self.session)
        self.driver.kill()
        self.driver.wait()
        self.log.close()


class Origin:
    """Serves one page, by whatever path, from another origin than the server's."""

    def __init__(self):
        origin = self
        self.page = "<!doctype html><title>origin</title>"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = origin.page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
