//! The server with a real engine, real supervisors and real sockets.

mod accounts;
mod cves;
mod estimates;
mod events;
mod first_generation;
mod fixture;
mod groups;
mod guard;
mod openapi;
mod page;
mod people;
mod queue;
mod rights;
mod speed;
mod trainer;
mod uploads;
mod v1;

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Trial};

/// Set once the environment is one in which the tests mean the same everywhere.
const PREPARED: &str = "SERVER_TESTS_PREPARED";

macro_rules! trials {
    ($($module:ident: $($test:ident),+ $(,)?);+ $(;)?) => {
        vec![$($(Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
            $module::$test();
            Ok(())
        })),+),+]
    };
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("supervise") => return runner::supervise(),
        Some("train") => return trainer::train(),
        Some("gpu-worker") => return gpu::worker_main(),
        Some("gpu-trial") => return gpu::trial_main(std::env::args().skip(2)),
        _ if std::env::var_os(PREPARED).is_none() => {
            let mut prepared = Command::new(std::env::current_exe().expect("this program"));
            prepared.args(std::env::args_os().skip(1)).env(PREPARED, "1");
            // Where nothing listens, and where nothing lies.
            prepared.env("SAGE_DOCS_URL", "http://127.0.0.1:9/docs.tar.gz").env("HF_HUB_CACHE", "/nonexistent");
            prepared.env("INSTA_UPDATE", std::env::var_os("INSTA_UPDATE").unwrap_or_else(|| "no".into()));
            panic!("{}", prepared.exec());
        }
        _ => {}
    }
    let trials = trials![
        openapi: the_committed_description_is_the_served_one, schemas_are_complete_and_operations_have_names;
        guard:
            only_our_hosts_are_served,
            only_our_own_page_may_call,
            nothing_works_without_a_session_where_authentication_is_on,
            bodies_have_limits,
            slow_strangers_keep_nobody_else_waiting,
            no_kept_request_breaks_anything;
        accounts:
            every_route_asks_for_a_role,
            members_deal_with_their_own,
            trusted_members_may_name_files_and_run_commands,
            tokens_do_what_they_are_for,
            owners_look_after_accounts,
            guessing_passwords_has_an_end,
            what_people_do_is_written_down,
            quotas_are_kept_at_the_door,
            one_person_needs_no_account,
            live_streams_end_with_the_right_to_them,
            what_has_expired_is_refused;
        rights:
            live_streams_end_with_the_token_and_with_the_role,
            a_name_that_owns_something_is_given_away_only_on_purpose,
            what_a_task_says_is_its_owners;
        cves:
            cve_2023_48022_jobs_without_a_sign_in,
            cve_2025_62593_a_rebound_name_with_another_user_agent,
            cve_2026_27482_delete_is_checked_as_well,
            cve_2025_14279_and_2024_28224_rebinding,
            cve_2023_1177_2025_11201_2026_28414_paths_stay_in_their_folder,
            archives_hold_only_the_tasks_own_files,
            cve_2026_7482_a_models_header_is_not_believed,
            unsloth_6294_owners_use_models_where_they_lie,
            cve_2026_5530_and_2026_28416_nothing_is_fetched_from_where_a_request_says,
            cve_2025_53002_no_request_names_a_pickle,
            cve_2026_1839_and_2025_32434_checkpoints_run_no_code,
            keys_go_only_to_the_studio_that_made_them,
            parsers_have_limits;
        first_generation:
            gpu_info_and_models,
            a_task_from_create_to_download,
            waiting_tasks_and_the_queue_warning,
            refusals,
            accounts;
        v1:
            arguments_arrive_as_they_were_sent,
            a_task_from_submission_to_removal,
            held_tasks_wait_for_their_release,
            lists_have_pages,
            bad_submissions_say_what_is_wrong,
            logs_have_ranges_and_streams,
            studio_devices_presets_models;
        estimates:
            what_does_not_fit_is_answered_with_what_would,
            a_task_that_does_not_fit_is_taken_as_it_is_or_as_it_fits,
            estimates_need_no_data_but_a_model,
            recommendations_keep_their_promise,
            the_doctor_says_what_it_looked_at;
        uploads:
            names_stay_in_their_folder,
            bad_data_leaves_nothing_behind,
            too_much_is_refused,
            what_comes_before_the_file_has_an_end,
            uploads_at_the_same_time_share_the_room,
            data_sets_are_listed_pasted_and_deleted;
        events:
            every_transition_is_told_once,
            a_broken_stream_goes_on_where_it_was,
            too_much_missed_is_a_resync,
            a_long_queue_is_told_and_no_flood,
            who_does_not_read_misses_events_and_holds_nobody_up,
            streams_end_with_the_server;
        page: the_page_and_its_files, the_page_has_a_strict_policy, the_api_never_answers_with_the_page;
        queue:
            the_plan_and_why_it_is_so,
            the_order_is_changed_by_hand,
            the_queue_is_paused_drained_and_resumed,
            nothing_starts_on_a_device_in_maintenance,
            terms_are_kept_and_shown;
        groups:
            a_sweep_is_taken_whole_or_not_at_all,
            an_array_counts_and_is_held_and_released,
            a_group_is_its_owners;
        speed: polling_stays_cheap;
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
