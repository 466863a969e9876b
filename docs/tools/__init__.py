"""What makes the site: `python -m docs.tools` writes its pages, `python -m docs.tools.guides` runs the guides."""
