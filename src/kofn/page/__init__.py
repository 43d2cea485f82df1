"""The report page: one self-contained HTML file that shows what was kept and what was lost. Import `kofn.report`."""
