// The page in the frame of the widget. Its settings are in the page.
const settings = JSON.parse(document.getElementById("settings").textContent);
document.title = settings.name;
