"""The tests that ``pytest -m "not slow"`` skips: files and single tests that take more than two seconds.

Without them, the tests take less than two minutes on two cores and still cover every part of jaxboard. The
skipped ones start processes, servers and notebook kernels, or repeat programs with other deliveries.
"""

SLOW = {
    "cli/test_demo.py",
    "cli/test_doctor.py",
    "conformance/test_any_jaxpr.py",
    "conformance/test_compositions.py",
    "conformance/test_deadlock.py",
    "conformance/test_options.py::test_weights",
    "conformance/test_transformations.py::test_callback",
    "conformance/test_transformations.py::test_eager",
    "conformance/test_transformations.py::test_no_instrument",
    "contract/test_import_cost.py",
    "process/test_exit.py",
    "profile/test_failures.py",
    "profile/test_profile.py",
    "profile/test_summary.py",
    "profile/test_xprof.py",
    "reduce/test_histograms.py::test_merged_in_any_order",
    "reduce/test_lanes.py",
    "reduce/test_reducers.py::test_merged_in_any_order",
    "reduce/test_reducers.py::test_weighted_in_any_order",
    "run/test_run.py::test_no_permission",
    "run/test_run.py::test_one_writer_per_directory",
    "sinks/test_dashboards.py",
    "sinks/test_tensorboard.py::test_importing_tensorflow_leaves_the_environment_as_it_was",
    "sinks/test_tensorboard.py::test_without_tensorflow_it_warns_once_and_writes",
    "sinks/test_tensorboard_faults.py",
    "telemetry/test_compiles.py",
    "telemetry/test_costs.py",
    "telemetry/test_dashboards.py",
    "test_notebooks.py::test_quickstart",
    "test_readme.py::test_programs_run",
    "test_readme.py::test_quickstart",
    "test_seeds.py",
    "test_workflows.py",
    "trace/test_gate.py",
    "trace/test_stream.py::test_each_iteration_is_a_step",
    "trace/test_stream_outside.py::test_before_and_after",
}
