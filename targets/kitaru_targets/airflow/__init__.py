"""The target for Airflow 3."""
