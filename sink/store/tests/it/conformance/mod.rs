//! What every backend has to do, written against [`Store`](store::Store) and a
//! [`Backend`](crate::fixture::Backend) that says where its stores are.

pub(crate) mod audit;
pub(crate) mod facts;
pub(crate) mod freshness;
pub(crate) mod history;
pub(crate) mod lease;
pub(crate) mod operators;
pub(crate) mod random;
pub(crate) mod targets;

/// One test per line of the list, run against `$backend`.
macro_rules! conformance {
    ($backend:ty) => {
        $crate::conformance::conformance! { $backend:
            facts: a_transition_writes_event_job_and_status_together,
            facts: applying_a_batch_twice_changes_nothing,
            facts: a_fact_that_was_applied_in_another_batch_is_skipped,
            facts: an_older_fact_that_comes_again_does_not_move_its_event_back,
            facts: a_closed_event_never_changes,
            facts: started_at_and_identity_never_move,
            facts: one_identity_has_one_open_event,
            facts: counts_only_rise_and_only_while_the_event_is_open,
            facts: an_incident_of_a_node_is_of_no_target,
            facts: a_false_alarm_is_a_false_positive_once,
            facts: evidence_comes_back_as_it_was_seen,
            facts: the_status_follows_the_worst_open_http_event,
            facts: floors_hold_the_highest_id_of_each_shard,
            facts: events_are_listed_newest_first,
            facts: a_store_that_was_closed_opens_as_it_was,
            targets: a_target_comes_back_with_every_field,
            targets: every_kind_of_check_comes_back_and_has_a_key_of_its_own,
            targets: each_field_alone_comes_back,
            targets: ids_are_minted_once_and_kept_under_the_key,
            targets: an_unchanged_row_is_not_rewritten,
            targets: the_generation_rises_only_with_what_is_probed,
            targets: an_id_that_takes_the_key_of_another_is_refused,
            targets: two_different_rows_for_one_target_are_refused,
            targets: a_whole_list_is_kept_or_nothing_of_it,
            targets: minted_ids_go_around_given_ones,
            targets: numbers_that_no_database_holds_are_refused,
            targets: prune_switches_off_what_the_import_did_not_name,
            targets: pruning_an_empty_import_is_refused,
            targets: an_import_that_was_given_up_is_forgotten_in_bounded_steps,
            targets: pages_hold_each_target_once,
            targets: change_pages_cover_every_change,
            targets: a_bad_row_that_is_switched_off_is_no_bad_one_any_more,
            targets: targets_are_found_by_their_ids_whatever_they_are,
            freshness: freshness_follows_the_writer_also_when_its_clock_steps_back,
            freshness: many_rows_are_written_in_chunks,
            freshness: old_check_times_of_targets_that_are_gone_are_forgotten_step_by_step,
            history: a_check_is_written_once_with_every_column,
            history: old_checks_are_forgotten_in_bounded_steps,
            history: closed_events_are_forgotten_with_their_transitions_and_open_ones_stay,
            history: an_event_with_many_transitions_goes_in_several_steps,
            audit: a_line_about_a_target_says_which_and_needs_the_right_to_write,
            audit: actions_are_noted_as_they_were_and_old_ones_forgotten,
            operators: a_window_comes_back_as_it_was_added,
            operators: a_window_that_was_written_wrong_by_hand_does_not_keep_the_others_away,
            operators: old_windows_go_and_there_is_a_limit,
            operators: a_paused_target_is_not_active_whatever_lists_say,
            operators: a_pause_is_kept_with_who_did_it_and_ends_once,
            operators: what_is_new_of_each_shard_can_be_followed,
            operators: the_last_check_of_a_target_is_told,
            lease: a_lease_runs_by_the_clock_of_the_database,
            lease: two_nodes_with_shards_of_their_own_work_side_by_side,
            lease: facts_of_a_shard_that_others_wrote_are_superseded,
            lease: a_takeover_that_wrote_nothing_supersedes_nothing,
            lease: shards_of_a_journal_that_does_not_come_back_are_one_row_in_the_end,
            lease: a_journal_that_is_back_is_not_forgotten,
            lease: a_store_from_before_nodes_had_names_goes_on_at_its_position,
            lease: a_store_that_was_set_back_takes_nothing_until_it_is_asked_where_it_is,
        }

        #[tokio::test]
        async fn a_bumped_epoch_makes_every_write_affect_nothing() {
            use $crate::conformance::lease::a_bumped_epoch_makes_every_write_affect_nothing as test;
            test::<$backend>().await;
        }

        #[test]
        fn random_batches_do_what_the_model_does() {
            $crate::conformance::random::random_batches_do_what_the_model_does::<$backend>();
        }
    };
    ($backend:ty: $($area:ident: $name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::conformance::$area::$name::<$backend>().await;
            }
        )*
    };
}
pub(crate) use conformance;
