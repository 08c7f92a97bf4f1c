"""Raters: functions from pictures to perceived groups, one file per rater, and their panels."""
