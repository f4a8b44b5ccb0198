"""Helm's own code on a chart: lints it and renders it with the values on standard input, as JSON on standard output."""

import json
import sys

import helm_python


def main() -> int:
    chart, values = sys.argv[1], json.load(sys.stdin)
    linted = helm_python.lint(chart, values, strict=True)
    # 1 is a recommendation (an icon), 2 a warning, 3 an error.
    wrong = [f"{message['path']}: {message['error']}" for message in linted["messages"] if message["severity"] != 1]
    rendered = {} if wrong else helm_python.Chart.load(chart).render(values, name="login", namespace="homeward")
    json.dump({"wrong": wrong, "rendered": rendered}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
