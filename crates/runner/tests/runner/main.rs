//! Attempts with real supervisors, processes and signals.

mod ending;
mod fixture;
mod following;
mod grouped;
mod launching;
mod losing;
mod stopping;
mod stranger;

use std::process::{Command, ExitCode};

use fixture::trial;
use libtest_mimic::Arguments;
use rustix::process::{Pid, WaitOptions};

const UNDER_INIT: &str = "RUNNER_TEST_UNDER_INIT";

/// Runs the tests below a process that adopts and reaps orphans at once, as a machine's init does and a container's may
/// not. It ends when none is left.
#[expect(clippy::zombie_processes, reason = "it waits for all children alike")]
fn init() -> ExitCode {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("a subreaper");
    let mut tests = Command::new(std::env::current_exe().expect("this program"));
    let tests = tests.args(std::env::args_os().skip(1)).env(UNDER_INIT, "1").spawn().expect("the tests");
    let mut code = ExitCode::FAILURE;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) {
        if pid == Pid::from_child(&tests) {
            code = ExitCode::from(status.exit_status().unwrap_or(101) as u8);
        }
    }
    code
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("supervise") => return runner::supervise(),
        Some("studio") => return fixture::studio(),
        _ if std::env::var_os(UNDER_INIT).is_none() => return init(),
        _ => {}
    }
    let trials = vec![
        trial!(launching::exit_code_and_output_are_recorded),
        trial!(launching::task_starts_in_a_clean_state),
        trial!(launching::task_gets_every_signal),
        trial!(launching::exec_failure_is_not_exit_127),
        trial!(launching::a_bad_attempt_folder_is_refused),
        trial!(launching::a_repeated_launch_runs_once),
        trial!(launching::a_killed_spare_is_replaced),
        trial!(ending::death_by_signal),
        trial!(ending::time_limit),
        trial!(ending::the_wall_clock_jumps),
        trial!(ending::out_of_host_memory),
        trial!(ending::record_survives_a_full_disk),
        trial!(ending::a_log_on_a_full_disk_does_not_end_the_task),
        trial!(ending::processes_left_behind_end_too),
        trial!(stopping::an_obedient_task),
        trial!(stopping::a_late_worker_does_not_keep_the_grace),
        trial!(stopping::a_deaf_task_is_killed_after_the_grace),
        trial!(stopping::kill_now_skips_the_grace),
        trial!(stopping::escaped_processes_are_killed_too),
        trial!(stopping::an_attempt_stopped_before_its_launch_never_runs),
        trial!(stopping::a_stranger_with_the_same_pid_is_left_alone),
        trial!(stopping::a_reused_pid_is_left_alone),
        trial!(grouped::a_task_has_a_control_group_of_its_own),
        trial!(grouped::how_it_ends_is_told_as_without_a_group),
        trial!(grouped::out_of_memory_in_a_group_is_exact_and_ends_all_of_it),
        trial!(losing::the_studio_is_killed),
        trial!(losing::the_studio_is_killed_at_any_moment_of_a_launch),
        trial!(losing::the_supervisor_is_killed),
        trial!(losing::the_supervisor_is_killed_at_any_moment),
        trial!(losing::a_task_without_supervisor_can_be_stopped),
        trial!(losing::the_machine_went_down),
        trial!(losing::without_a_supervisor_the_time_limit_and_the_log_cap_are_kept),
        trial!(losing::damaged_records_do_not_hide_an_attempt),
        trial!(following::appends_are_seen_as_they_come),
        trial!(following::a_capped_log_keeps_its_offsets),
        trial!(following::a_flood_neither_fills_the_disk_nor_keeps_its_reader_busy),
        trial!(following::a_follower_leaves_out_only_what_it_is_told_to),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
