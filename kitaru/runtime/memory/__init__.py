"""Values that flows store beyond their own execution."""
