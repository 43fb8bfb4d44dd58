"""Where images come from: one module a kind of source. What is listed here is read by `tasks/images/locators.py`."""
