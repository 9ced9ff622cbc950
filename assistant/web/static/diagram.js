/**
 * Draws one diagram in this frame, which has no network and shares nothing with the page around it.
 *
 * The page sends { source, theme } once the frame has loaded. The answer is { width, height }, or { error }.
 */

// WebRTC could send to any host, because browsers have no policy that stops it.
for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection"]) delete globalThis[name];

let isDrawn = false;

addEventListener("message", async ({ source: sender, data: { source, theme } }) => {
  if (sender !== parent || isDrawn) return;
  isDrawn = true;
  try {
    const { mermaid } = globalThis;
    if (!mermaid) throw new Error("The library that draws diagrams could not be loaded.");
    document.documentElement.style.colorScheme = theme; // else the frame has an opaque background
    const name = theme === "dark" ? "dark" : "default";
    mermaid.initialize({ startOnLoad: false, securityLevel: "strict", suppressErrorRendering: true, theme: name });
    const { svg } = await mermaid.render("diagram", source);
    document.body.replaceChildren(...new DOMParser().parseFromString(svg, "text/html").body.childNodes);
    const picture = document.querySelector("svg");
    const { width, height } = picture.viewBox.baseVal;
    picture.style.minWidth = `${0.6 * width}px`; // below that, the text is too small to read, and the frame scrolls
    parent.postMessage({ width: Math.ceil(width), height: Math.ceil(height) }, "*");
  } catch (error) {
    parent.postMessage({ error: String(error?.message ?? error) }, "*");
  }
});
