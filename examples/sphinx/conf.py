# Add this to the conf.py of your Sphinx project.

html_js_files = [
    ("https://assistant.example.org/widget/v1.js", {"data-site": "KEY", "async": "async"}),
]
