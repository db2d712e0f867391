"""One HTML file of all results in one or more folders: `write_report` in `report.page`."""
