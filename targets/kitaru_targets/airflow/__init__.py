"""Decides how a plan runs on Airflow 3."""
