"""The systems that rules look at and act on: one folder each, one file per action or probe.

The path is the name: ``remediator/integrations/http/get.py`` is ``http.get``. A folder holds ``target.py`` (the
settings of that kind of target) and one file for every action or probe, whose class is the file's name in
CamelCase. Files that begin with an underscore are shared parts and never an action or probe.
"""
