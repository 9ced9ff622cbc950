// The site's colour, made light or dark enough to be read as text on the frame's grounds.

const GROUNDS = { light: [255, 255, 255], dark: [22, 24, 28] };
const TOWARDS = { light: [0, 0, 0], dark: [255, 255, 255] };
const LEAST = 4.8; // contrast; WCAG wants 4.5, and the ground of a chip is not quite that of the page

/** Use a colour such as `#3558a8` as the accent of the page. */
export function paintAccent(colour) {
  if (!/^#[\da-f]{6}$/i.test(colour)) return;
  const [light, dark] = ["light", "dark"].map((scheme) => `rgb(${readable(colour, scheme).join(" ")})`);
  document.documentElement.style.setProperty("--tech-accent", `light-dark(${light}, ${dark})`);
}

function readable(colour, scheme) {
  const own = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  for (let part = 0; part <= 1; part += 0.05) {
    const mixed = own.map((value, at) => Math.round(value + (TOWARDS[scheme][at] - value) * part));
    if (contrast(mixed, GROUNDS[scheme]) >= LEAST) return mixed;
  }
  return TOWARDS[scheme];
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
