// What the owner of the site has set, which the server writes into the page of the frame.

export const settings = JSON.parse(document.querySelector("#settings").textContent);
