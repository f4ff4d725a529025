"""Draws measured costs as bars in one SVG file."""
import html
import math
import platform
import re
import ssl
import statistics

PANELS = (("request", "Keep-alive request"),
          ("added", "Keep-alive request, above the same server without certificates and headers"),
          ("first", "Handshake, client not seen before"),
          ("full", "Handshake, client seen before"), ("resumed", "Resumed handshake"))
WIDTH, LABEL, BAR, GAP, PANEL = 860, 210, 16, 6, 34
# Readable on light and dark pages; currentColor is not inherited by an <img>.
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 13px }
  .note { font-size: 11px; fill: #57606a }
  .ours { fill: #0969da }
  .other { fill: #8c959f }
  .spread { stroke: #24292f; stroke-width: 1.5 }
  .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .other { fill: #656c76 }
    .spread { stroke: #e6edf3 }
    .page { fill: #0d1117 }
  }
"""


def machine():
    """The processor and OpenSSL."""
    with open("/proc/cpuinfo") as file:
        model = re.search(r"^model name\s*: (.*)", file.read(), re.M)
    return "%s, %s" % (model.group(1) if model else platform.machine(), " ".join(ssl.OPENSSL_VERSION.split()[:2]))


def write(path, figures, about):
    """`figures` are (label, {kind: [microseconds of a round]}); the first word of a label of ours is resty-mtls."""
    parts, y = [], 24
    for kind, title in PANELS:
        # A difference may be nothing, and below it by the noise of the machine.
        measured = [one for one in figures if not math.isnan(one[1][kind][0])]
        largest = max(max(values[kind]) for _, values in measured)
        scale = (WIDTH - LABEL - 80) / largest
        parts.append('<text class="title" x="12" y="%d">%s: server CPU in µs</text>' % (y, title))
        y += 12
        for label, values in sorted(measured, key=lambda one: statistics.median(one[1][kind])):
            middle, low, high = (max(value, 0) for value in (
                statistics.median(values[kind]), min(values[kind]), max(values[kind])))
            name = "ours" if label.startswith("resty-mtls") else "other"
            centre = y + BAR / 2
            digits = 1 if middle < 100 else 0
            parts.append(
                '<text x="%d" y="%.1f" text-anchor="end">%s</text>'
                '<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>'
                '<path class="spread" d="M%.1f %.1fH%.1f"/><text x="%.1f" y="%.1f">%.*f</text>' % (
                    LABEL - 8, centre + 4, html.escape(label), name, LABEL, y, middle * scale, BAR,
                    LABEL + low * scale, centre, LABEL + high * scale, LABEL + high * scale + 6, centre + 4, digits,
                    middle))
            y += BAR + GAP
        y += PANEL
    y -= PANEL - 20
    about = "Bars: median of the rounds; lines: lowest to highest round. Shorter is better. " + about
    words, lines = about.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 130:
            lines.append("")
        lines[-1] += word + " "
    for line in lines:
        parts.append('<text class="note" x="12" y="%d">%s</text>' % (y, html.escape(line.strip())))
        y += 16
    with open(path, "w") as file:
        file.write('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">\n'
                   '<style>%s</style>\n<rect class="page" width="100%%" height="100%%"/>\n%s\n</svg>\n'
                   % (WIDTH, y + 4, "CPU time of a request and of a handshake in resty-mtls and other gateways", STYLE,
                      "\n".join(parts)))
