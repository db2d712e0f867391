"""One HTML file of all results in one or more folders: `page.write_report`."""
