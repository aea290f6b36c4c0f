"""Loop: a company's accept / modify / reject decisions become better models, every day, safely."""

__version__ = "0.1.0"
