// Adds the widget of a site to the page that loads this script: <script src=".../widget/v1.js" data-site="KEY">
const script = document.currentScript;
const frame = document.createElement("iframe");
frame.src = new URL(script.dataset.site, script.src).href;
frame.title = script.dataset.label ?? "Assistant";
document.body.append(frame);
