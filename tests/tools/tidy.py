#!/usr/bin/env python3
"""Style rules that neither the compiler nor clang-format checks (docs: STYLE.md).

usage: tidy.py ROOT [--report]

Prints one line per violation and exits 1 when there is any. --report also lists the functions of
more than 60 lines; those never fail.
"""

import pathlib
import re
import sys

FOLDERS = ["base", "runtime", "kv", "erasure", "meta", "storaged", "gateway", "cli", "tests"]
TEXT_SUFFIXES = {".c", ".h", ".S", ".py", ".sh", ".cmake", ".txt", ".proto"}
C_SUFFIXES = {".c", ".h", ".S"}
COLUMNS_MAX = 100
COLUMNS_MAX_PYTHON = 140
FUNCTION_LINES_MAX = 60

BANNED = {
    "strcpy": "memcpy or mem_format",
    "strcat": "bytes_append",
    "sprintf": "snprintf or mem_format",
    "strtok": "slice_find",
    "atoi": "text_parse_u64",
    "localtime": "gmtime_r",
    "rand": "io_random",
    "sleep": "a wait on struct io",
    "gets": "a bounded read",
}
BANNED_OUTSIDE_BASE = {
    "malloc": "mem_alloc",
    "calloc": "mem_alloc_array",
    "realloc": "mem_resize",
    "free": "mem_free",
}

# The identifier as a whole, called as a function and not as a member.
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED | BANNED_OUTSIDE_BASE))
INCLUDE_UP = re.compile(r'^\s*#\s*include\s*["<][^">]*\.\.')
DEFAULT = re.compile(r"^\s*default\s*:")
UNNUMBERED = re.compile(r"\b(TODO|FIXME)\b(?!\(#\d+\))")
FUNCTION_HEAD = re.compile(r"^[A-Za-z_].*[A-Za-z_0-9]\(")


def without_comments_and_strings(text):
    """The code alone, with every line break kept so that line numbers hold."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"

    def blank(match):
        found = match.group()
        return '""' if found[0] == '"' else "0" if found[0] == "'" else "\n" * found.count("\n")

    return re.sub(pattern, blank, text, flags=re.S)


def check_text(path, lines, complain):
    columns_max = COLUMNS_MAX_PYTHON if path.suffix == ".py" else COLUMNS_MAX
    for number, line in enumerate(lines, 1):
        if len(line) > columns_max:
            complain(path, number, f"line of {len(line)} columns, at most {columns_max}")
        if "\t" in line:
            complain(path, number, "tab")
        if line != line.rstrip():
            complain(path, number, "white space at the end of the line")
        if UNNUMBERED.search(line) and path.name != "tidy.py":
            complain(path, number, "TODO or FIXME without an issue number, as in TODO(#12)")


def check_c(path, lines, complain):
    product = path.parts[0] != "tests"
    if not "".join(lines).lstrip().startswith("/*"):
        complain(path, 1, "no opening comment")
    code = without_comments_and_strings("\n".join(lines)).split("\n")
    for number, (line, plain) in enumerate(zip(lines, code), 1):
        if INCLUDE_UP.match(line):
            complain(path, number, "#include that contains '..'")
        if DEFAULT.match(plain) and "/*" not in line:
            complain(path, number, "default: hides new values of an enum; say why in a comment")
        for match in CALL.finditer(plain) if product else ():
            name = match.group(1)
            if name in BANNED:
                complain(path, number, f"{name}: use {BANNED[name]}")
            elif path.parts[0] != "base":
                complain(path, number, f"{name}: use {BANNED_OUTSIDE_BASE[name]}")


def long_functions(path, lines):
    """Functions as clang-format lays them out: '{' and '}' alone in the first column."""
    head, start = None, None
    for number, line in enumerate(lines, 1):
        if FUNCTION_HEAD.match(line):
            head = line
        elif line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start - 1 > FUNCTION_LINES_MAX:
                yield f"{path}:{start}: {number - start - 1} lines: {head}"
            start = None


def source_files(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root)
            # Under tests/data and in fuzz corpora any byte is allowed.
            if path.suffix in TEXT_SUFFIXES and path.is_file() and "data" not in name.parts:
                yield name


def main(arguments):
    report = "--report" in arguments
    roots = [argument for argument in arguments if not argument.startswith("--")]
    if len(roots) != 1:
        sys.exit(__doc__)
    root = pathlib.Path(roots[0])
    violations, longest = [], []
    for path in source_files(root):
        lines = (root / path).read_text(encoding="utf-8").split("\n")

        def complain(where, number, what):
            violations.append(f"{where}:{number}: {what}")

        check_text(path, lines, complain)
        if path.suffix in C_SUFFIXES:
            check_c(path, lines, complain)
            longest.extend(long_functions(path, lines))
    print("\n".join(violations + (longest if report else [])))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
