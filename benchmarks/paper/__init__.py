"""The claims of Schaub and Hotaling (2023), trained by the product and judged."""
