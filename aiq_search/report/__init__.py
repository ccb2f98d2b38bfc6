"""The report on a study: figures and text in one HTML file."""
