"""How much memory a training needs, and what is done when it runs out."""
