// Add `scripts` to the docusaurus.config.js of your project.

export default {
  scripts: [{ src: "https://assistant.example.org/widget/v1.js", "data-site": "KEY", async: true }],
};
