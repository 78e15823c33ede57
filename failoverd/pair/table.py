"""The table: in which phase what leads where, and what is done. Read the decisions here.

Of the rows for a phase and an event, the first whose guards all hold is taken; if there is none,
nothing is done. The sections come in the order of `ROWS`, at the end. What their words mean stands
in `state` (phases, causes), `events` (`On`), `guards` and `acts`.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.pair.acts import (
    Act,
    announce,
    ask,
    ask_both,
    ask_status,
    become_active,
    busy,
    compare_counts_soon,
    compare_now,
    compare_when_unheard,
    count_nobody,
    end_claim,
    enter_asking,
    enter_standby,
    expect_peer,
    join,
    leave_role,
    look,
    mark_clean,
    mark_failed,
    mark_resuming,
    mark_stalled,
    mark_unclean,
    note_giver,
    ok_active,
    ok_standby,
    question,
    question_ahead,
    question_once,
    question_own,
    question_own_soon,
    question_rest,
    refuse,
    refuse_as_peer,
    refuse_for_life,
    refuse_unasked,
    refuse_unheard,
    restart_watchers,
    retry_next_window,
    retry_soon,
    run_master,
    run_program,
    run_slave,
    say,
    say_nobody,
    say_not_able,
    say_once,
    say_script_failed,
    say_what_is_missing,
    say_who_answers,
    settle_active,
    settle_peer,
    settle_standby,
    stop_nobody,
    stop_resuming,
    trust_interfaces,
    wait_a_round,
    wait_for_peer,
    wait_longest,
)
from failoverd.pair.events import On, Purpose
from failoverd.pair.guards import (
    Guard,
    boot_slave,
    by_boot,
    by_healing,
    by_interface,
    by_person,
    by_silence,
    claimed_thrice,
    confirm_by_arp,
    confirm_by_program,
    contacts_nobody,
    evidence_of_life,
    fence_first,
    has_arrived,
    has_deferred,
    has_failed,
    hears_peer,
    is_claimed,
    is_resuming,
    is_speechless,
    is_unclean,
    link_is_silent,
    may_answer_yet,
    may_hand_over,
    may_resume,
    must_place,
    negate,
    nobody_counted,
    nobody_to_ask,
    not_heard_all,
    not_sure,
    nothing_to_serve_on,
    own_is_due,
    peer_can_have_it,
    peer_can_serve,
    peer_has_failed,
    peer_has_news,
    peer_is_able,
    peer_is_active,
    peer_is_expected,
    peer_is_idle,
    peer_is_rejoining,
    peer_is_switching,
    peer_may_serve,
    peer_outranks,
    peer_serves_nobody,
    still_asked,
    stood_still,
    unheard,
    we_come_first,
    we_yield,
)
from failoverd.pair.state import BEING_ACTIVE, STANDING_BY, SWITCHING, Cause, Phase


@dataclass(frozen=True, slots=True)
class Row:
    """In these phases, on this event, if all guards hold: do this, and go there."""

    phases: tuple[Phase, ...]
    on: On
    when: tuple[Guard, ...] = ()
    do: tuple[Act, ...] = ()
    go: Phase | None = None
    cause: Cause | None = None


# What is done on coming into a phase from another, after the acts of the row that led there.
ENTER: dict[Phase, tuple[Act, ...]] = {
    Phase.STANDBY: (enter_standby,),
    Phase.INQUIRING: (ask_status,),
    Phase.SEEKING: (question,),
    Phase.CALLING: (ask(Purpose.RESUME), wait_longest),
    Phase.DOUBTING: (ask_status,),
    Phase.FENCING: (run_program("fence"),),
    Phase.PROMOTING: (run_master,),
    Phase.DEMOTING: (run_slave,),
    Phase.CLEANING: (run_slave,),
    Phase.ASKING: (enter_asking,),
    Phase.TELLING: (ask(Purpose.FAIL), wait_longest),
    Phase.UNSURE: (ask_status,),
}

P = Phase
ANY = tuple(phase for phase in Phase if phase is not Phase.NEW)
WATCHING = (P.STANDBY, P.INQUIRING)
SERVING = (P.ACTIVE, P.ASKING)

# failoverd has begun: go on as $state says, or else as host_type does.
START = (
    Row((P.NEW,), On.START_FRESH, (boot_slave,), go=P.CLEANING, cause=Cause.BOOT),
    Row((P.NEW,), On.START_FRESH, (contacts_nobody,), go=P.PROMOTING, cause=Cause.BOOT),
    Row((P.NEW,), On.START_FRESH, (), (mark_resuming,), P.INQUIRING, Cause.BOOT),
    Row((P.NEW,), On.START_ACTIVE, (), (ask_both,), P.REJOINING),
    Row((P.NEW,), On.START_STANDBY, go=P.STANDBY),
    Row((P.NEW,), On.START_SWITCHING, go=P.CLEANING, cause=Cause.BOOT),
)

# `fail`: take the role. The peer stood down before it said so; for a person it is asked first.
TOLD_FAIL = (
    Row(SERVING, On.PEER_SAYS_FAIL, (), (ok_active, announce)),
    Row(
        (P.REJOINING,),
        On.PEER_SAYS_FAIL,
        (must_place,),
        (refuse("our addresses are gone"), join),
        P.PROMOTING,
        Cause.RESTORE,
    ),
    Row((P.REJOINING,), On.PEER_SAYS_FAIL, (), (ok_active, become_active), P.ACTIVE),
    Row((P.PROMOTING,), On.PEER_SAYS_FAIL, (), (join,)),
    Row(STANDING_BY, On.PEER_SAYS_FAIL, (), (join, note_giver), P.PROMOTING, Cause.PEER),
    Row(
        (P.TELLING, P.UNSURE),
        On.PEER_SAYS_FAIL,
        (),
        (refuse("the peer handed the role back"), join, note_giver),
        P.PROMOTING,
        Cause.PEER,
    ),
    Row((P.DEMOTING, P.CLEANING), On.PEER_SAYS_FAIL, (), (busy,)),
    Row(BEING_ACTIVE, On.PERSON_SAYS_FAIL, (), (ok_active,)),
    Row((P.PROMOTING, P.CALLING, P.DOUBTING, P.FENCING), On.PERSON_SAYS_FAIL, (), (join,)),
    Row((P.INQUIRING, P.SEEKING), On.PERSON_SAYS_FAIL, (), (join,), cause=Cause.PERSON),
    Row((P.STANDBY, P.CONFIRMING), On.PERSON_SAYS_FAIL, (), (join,), P.INQUIRING, Cause.PERSON),
    Row((P.DEMOTING, P.TELLING, P.UNSURE, P.CLEANING), On.PERSON_SAYS_FAIL, (), (busy,)),
)

# `resume`: stand by. The peer takes the role itself; for a person it is handed over.
TOLD_RESUME = (
    Row((P.STANDBY,), On.PEER_SAYS_RESUME, (), (ok_standby, stop_nobody, expect_peer)),
    Row(
        (P.CONFIRMING, P.FENCING, P.INQUIRING, P.SEEKING),
        On.PEER_SAYS_RESUME,
        (),
        (refuse("the peer takes the role"), ok_standby, expect_peer),
        P.STANDBY,
    ),
    Row(
        (P.CALLING, P.DOUBTING),
        On.PEER_SAYS_RESUME,
        (peer_outranks,),
        (refuse("the peer takes the role"), ok_standby, expect_peer),
        P.STANDBY,
    ),
    Row((P.CALLING, P.DOUBTING), On.PEER_SAYS_RESUME, (), (busy,)),
    Row(BEING_ACTIVE, On.PEER_SAYS_RESUME, (), (join,), P.DEMOTING, Cause.PEER),
    Row((P.DEMOTING,), On.PEER_SAYS_RESUME, (), (join,)),
    Row(
        (P.TELLING, P.UNSURE),
        On.PEER_SAYS_RESUME,
        (),
        (settle_standby, ok_standby),
        P.STANDBY,
    ),
    Row((P.CLEANING,), On.PEER_SAYS_RESUME, (is_unclean,), (ok_standby,)),
    Row((P.PROMOTING, P.CLEANING), On.PEER_SAYS_RESUME, (), (busy,)),
    Row((P.STANDBY, P.CONFIRMING), On.PERSON_SAYS_RESUME, (), (ok_standby, stop_resuming)),
    Row((P.ACTIVE,), On.PERSON_SAYS_RESUME, (), (join,), P.ASKING, Cause.PERSON),
    Row((P.ASKING,), On.PERSON_SAYS_RESUME, (), (join,), cause=Cause.PERSON),
    Row((P.REJOINING,), On.PERSON_SAYS_RESUME, (), (join,)),
    Row((P.ACTIVE,), On.WANTED, go=P.ASKING, cause=Cause.PERSON),
    Row((P.DEMOTING, P.TELLING, P.UNSURE), On.PERSON_SAYS_RESUME, (), (join,)),
    Row(
        (
            *(P.INQUIRING, P.SEEKING, P.CALLING, P.DOUBTING, P.FENCING),
            *(P.PROMOTING, P.CLEANING),
        ),
        On.PERSON_SAYS_RESUME,
        (),
        (busy,),
    ),
)

# Whoever is heard must be asked again: that nobody answers for the addresses proves nothing while
# the other machine is between two steps of its own.
HEARD_AFTER_ALL = (
    Row((P.INQUIRING,), On.LOST, (may_answer_yet,), (retry_soon,)),
    Row((P.INQUIRING,), On.PATIENCE, go=P.SEEKING),
    Row((P.SEEKING,), On.UNANSWERED, (may_answer_yet,), go=P.INQUIRING),
    Row((P.DOUBTING, P.UNSURE), On.UNANSWERED, (hears_peer,), (ask_status, wait_a_round)),
    Row((P.REJOINING,), On.UNANSWERED, (hears_peer,), (ask_both,)),
    Row(
        (P.CONFIRMING,),
        On.UNANSWERED,
        (hears_peer,),
        (refuse("the peer is heard again"),),
        P.STANDBY,
    ),
)

# A boot master, a person, or nobody active: ask the peer, have it stand down, take the role.
RESUMING = (
    Row((P.STANDBY,), On.RETRY, (is_unclean,), go=P.CLEANING, cause=Cause.BOOT),
    Row((P.STANDBY,), On.RETRY, (is_resuming,), go=P.INQUIRING, cause=Cause.BOOT),
    Row((P.STANDBY,), On.INTERFACES_HEARD, (is_resuming,), go=P.INQUIRING, cause=Cause.BOOT),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_person, peer_is_switching),
        (refuse("the peer is switching"),),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.STATUS, (peer_is_switching,), (retry_soon,)),
    Row((P.INQUIRING,), On.RETRY, (), (ask_status,)),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_boot, negate(may_resume, "may_not_resume")),
        (say_what_is_missing, refuse("the peer is better off")),
        P.STANDBY,
    ),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_healing, peer_is_active),
        (refuse("the peer is active"),),
        P.STANDBY,
    ),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_silence, peer_is_active, peer_may_serve),
        (refuse("the peer serves again"),),
        P.STANDBY,
    ),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (peer_is_active, nothing_to_serve_on),
        (refuse("our own interfaces are down, and the peer is active"),),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.STATUS, go=P.CALLING),
    Row(
        (P.INQUIRING,),
        On.LOST,
        (by_boot, not_heard_all),
        (say_what_is_missing, refuse_unheard),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.LOST, (by_healing,), (refuse_unheard,), P.STANDBY),
    Row((P.INQUIRING,), On.LOST, go=P.SEEKING),
    Row(
        (P.SEEKING, P.DOUBTING),
        On.ANSWERED,
        (),
        (say_who_answers, refuse_for_life),
        P.STANDBY,
    ),
    Row((P.SEEKING, P.DOUBTING), On.UNANSWERED, (), go=P.PROMOTING),
    Row((P.SEEKING, P.DOUBTING), On.UNASKED, (nobody_to_ask,), go=P.PROMOTING),
    Row(
        (P.SEEKING,),
        On.UNASKED,
        (),
        (
            say_once("no takeover: neither the peer nor the ethernet side can be asked"),
            refuse_unasked,
        ),
        P.STANDBY,
    ),
    Row((P.CALLING,), On.AGREED, go=P.PROMOTING),
    Row((P.CALLING,), On.REFUSED, (), (refuse_as_peer,), P.STANDBY),
    Row((P.CALLING,), On.LOST, go=P.DOUBTING),
    Row((P.DOUBTING,), On.STATUS, (peer_is_idle,), go=P.PROMOTING),
    Row(
        (P.DOUBTING,),
        On.STATUS,
        (peer_is_active,),
        (refuse("the peer did not stand down"),),
        P.STANDBY,
    ),
)

NO_WORD = "the program of $confirm cannot be run"
# Every window has a verdict of its own while the link is silent: no other moment would come to take
# away what a stand-down has left beside the peer's addresses.
NO_TAKEOVER = (((is_unclean,), P.CLEANING, Cause.BOOT), ((), P.STANDBY, None))

# The private link is silent: confirm that nobody serves, fence, take the role.
SILENCE = (
    Row(WATCHING, On.FALLING_SILENT, (), (question_ahead,)),
    Row(
        (P.STANDBY,),
        On.LINK_SILENT,
        (hears_peer, peer_serves_nobody),
        (say("the peer is active, but hears nothing, and cannot reach us: calling for the role"),),
        P.INQUIRING,
        Cause.SILENCE,
    ),
    Row(WATCHING, On.LINK_SILENT, (peer_is_expected,), (question_ahead,)),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (hears_peer,),
        (
            say_once("no takeover: no heartbeats come in, but the peer's port answers"),
            question_ahead,
        ),
    ),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (nothing_to_serve_on,),
        (
            say_once("no takeover: the private link is silent, but our own interfaces are down"),
            question_ahead,
        ),
    ),
    Row(WATCHING, On.LINK_SILENT, (confirm_by_program,), (run_program("confirm"),), P.CONFIRMING),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (evidence_of_life,),
        (say_who_answers, refuse_for_life, question_once),
        P.CONFIRMING,
    ),
    Row(WATCHING, On.LINK_SILENT, (still_asked,), go=P.CONFIRMING),
    Row(WATCHING, On.LINK_SILENT, (confirm_by_arp, not_sure), (question_rest,), P.CONFIRMING),
    Row(WATCHING, On.LINK_SILENT, (fence_first,), go=P.FENCING, cause=Cause.SILENCE),
    Row(WATCHING, On.LINK_SILENT, go=P.PROMOTING, cause=Cause.SILENCE),
    *(
        Row(
            (P.CONFIRMING,),
            on,
            (),
            (say("the peer is heard again"), refuse("the peer is heard again")),
            P.STANDBY,
        )
        for on in (On.LINK_ALIVE, On.COMPARED)
    ),
    Row(
        (P.CONFIRMING,),
        On.ANSWERED,
        (is_unclean,),
        (say_who_answers, refuse_for_life),
        P.CLEANING,
        Cause.BOOT,
    ),
    Row(
        (P.CONFIRMING,),
        On.ANSWERED,
        (confirm_by_program,),
        (say_who_answers, refuse_for_life),
        P.STANDBY,
    ),
    Row((P.CONFIRMING,), On.ANSWERED, (), (say_who_answers, refuse_for_life, question_once)),
    Row((P.CONFIRMING,), On.UNANSWERED, (not_sure,), (question_once,)),
    Row(
        (P.CONFIRMING,),
        On.UNANSWERED,
        (nothing_to_serve_on,),
        (refuse("our own interfaces are down"),),
        P.STANDBY,
    ),
    Row((P.CONFIRMING,), On.UNANSWERED, (fence_first,), go=P.FENCING, cause=Cause.SILENCE),
    Row((P.CONFIRMING,), On.UNANSWERED, go=P.PROMOTING, cause=Cause.SILENCE),
    *(
        Row(
            (P.CONFIRMING,),
            On.NOT_RUN,
            (nobody_to_ask, *when),
            (say_once(f"no takeover: {NO_WORD}"), refuse(NO_WORD)),
            go,
            cause,
        )
        for when, go, cause in NO_TAKEOVER
    ),
    Row((P.CONFIRMING,), On.NOT_RUN, (), (say_once(f"{NO_WORD}: asking by ARP"), question)),
    Row(
        (P.CONFIRMING,),
        On.UNASKED,
        (),
        (say_once("no takeover: the ethernet side cannot be asked"), retry_soon),
    ),
    Row((P.CONFIRMING,), On.RETRY, (), (question_once,)),
    Row(
        (P.CONFIRMING,),
        On.REREAD,
        (),
        (refuse("the configuration was read again"),),
        P.STANDBY,
    ),
    Row((P.FENCING,), On.FENCED, go=P.PROMOTING),
    *(
        Row(
            (P.FENCING,),
            On.FENCE_FAILED,
            when,
            (
                say_once("no takeover: the fence program failed"),
                refuse("the fence program failed"),
            ),
            go,
            cause,
        )
        for when, go, cause in NO_TAKEOVER
    ),
)

# An interface has failed, or a person wants it: ask the peer, stand down, tell it, be sure.
HANDOVER = (
    Row((P.ACTIVE,), On.INTERFACE_FAILED, (may_hand_over,), go=P.ASKING, cause=Cause.INTERFACE),
    Row((P.ASKING,), On.STATUS, (by_person, peer_can_serve), go=P.DEMOTING),
    Row((P.ASKING,), On.STATUS, (peer_is_able, peer_has_news), (look,)),
    Row((P.ASKING,), On.STILL_SILENT, (peer_is_able, peer_has_news), go=P.DEMOTING),
    Row((P.ASKING,), On.HEARS_AGAIN, (by_interface,), (say("it hears again"),), P.ACTIVE),
    Row((P.ASKING,), On.STATUS, (peer_is_able,), (compare_counts_soon,)),
    Row((P.ASKING,), On.RETRY, (), (ask_status,)),
    Row(
        (P.ASKING,),
        On.GIVE_UP,
        (by_interface,),
        (say_once("the peer does not show that it hears more: we keep the role"),),
        P.ACTIVE,
    ),
    Row((P.ASKING,), On.STATUS, (), (say_not_able, refuse("the peer is not able")), P.ACTIVE),
    Row((P.ASKING,), On.LOST, (by_interface, hears_peer), (retry_soon,)),
    Row(
        (P.ASKING,),
        On.LOST,
        (),
        (say_once("the peer cannot be asked: we keep the role"), refuse_unheard),
        P.ACTIVE,
    ),
    Row((P.TELLING,), On.AGREED, (), (settle_standby,), P.STANDBY),
    Row((P.TELLING,), On.REFUSED, (has_failed,), (refuse_as_peer,), P.STANDBY),
    Row((P.TELLING,), On.REFUSED, (), (refuse_as_peer,), P.PROMOTING, Cause.TAKE_BACK),
    Row((P.TELLING,), On.LOST, go=P.UNSURE),
    Row((P.UNSURE,), On.STATUS, (peer_is_active,), (settle_standby,), P.STANDBY),
    Row(
        (P.UNSURE,),
        On.STATUS,
        (peer_has_failed, has_failed),
        (refuse("the peer did not take over"),),
        P.STANDBY,
    ),
    Row((P.UNSURE,), On.STATUS, (peer_is_idle, has_failed), go=P.TELLING),
    Row(
        (P.UNSURE,),
        On.STATUS,
        (peer_is_idle, has_arrived),
        (refuse("the peer did not take over"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
    Row((P.UNSURE,), On.ANSWERED, (), (settle_standby,), P.STANDBY),
    *(
        Row(
            (P.UNSURE,),
            on,
            (has_failed, *when),
            (refuse("the peer was lost, and the switch script fails here"),),
            P.STANDBY,
        )
        for on, when in ((On.UNANSWERED, ()), (On.UNASKED, (nobody_to_ask,)))
    ),
    Row(
        (P.UNSURE,),
        On.UNANSWERED,
        (),
        (refuse("the peer was lost"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
    Row(
        (P.UNSURE,),
        On.UNASKED,
        (nobody_to_ask,),
        (refuse("the peer was lost"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
)

# An answer was lost: ask until it is known what the peer did, but not for ever.
UNTIL_IT_KNOWS = (
    Row((P.DOUBTING, P.UNSURE), On.STATUS, (), (retry_soon,)),
    Row((P.DOUBTING, P.UNSURE), On.LOST, (), (retry_soon,)),
    Row((P.DOUBTING, P.UNSURE), On.RETRY, (), (ask_status,)),
    Row((P.CALLING,), On.GIVE_UP, (), (wait_a_round,), P.DOUBTING),
    Row((P.TELLING,), On.GIVE_UP, (), (wait_a_round,), P.UNSURE),
    Row((P.DOUBTING, P.UNSURE), On.GIVE_UP, (hears_peer,), (wait_a_round,)),
    Row((P.DOUBTING, P.UNSURE), On.GIVE_UP, (), (question,)),
    Row(
        (P.DOUBTING, P.UNSURE),
        On.UNASKED,
        (),
        (
            say_once("neither the peer nor the ethernet side can be asked: standing by"),
            refuse("neither the peer nor the ethernet side can be asked"),
        ),
        P.STANDBY,
    ),
)

# A run of the switch script has ended, or what it did was undone by others.
SCRIPTS = (
    Row(
        (P.PROMOTING,),
        On.SCRIPT_OK,
        (stood_still,),
        (restart_watchers, settle_active, ask_both),
        P.REJOINING,
    ),
    Row(
        (P.PROMOTING,),
        On.SCRIPT_OK,
        (),
        (restart_watchers, settle_active, become_active),
        P.ACTIVE,
    ),
    Row(
        SERVING,
        On.BARE,
        (unheard,),
        (
            say("our addresses are gone from their card: asking who has them", True),
            refuse("our addresses are gone"),
            ask_both,
        ),
        P.REJOINING,
    ),
    Row(
        SERVING,
        On.BARE,
        (),
        (
            say("our addresses are gone from their card: putting them there again", True),
            refuse("our addresses are gone"),
        ),
        P.PROMOTING,
        Cause.RESTORE,
    ),
    Row((P.REJOINING,), On.BARE, (), (say("our addresses are gone from their card", True),)),
    Row(
        (P.STANDBY, P.INQUIRING, P.SEEKING, P.CONFIRMING, P.FENCING),
        On.STRAY,
        (),
        (
            say("our addresses have come to their card while we stand by: taking them away", True),
            refuse("our addresses have come to their card"),
        ),
        P.CLEANING,
        Cause.STRAY,
    ),
    *(
        Row((P.PROMOTING,), on, (), (say_script_failed, mark_failed), P.CLEANING)
        for on in (On.SCRIPT_FAILED, On.NOT_RUN)
    ),
    *(
        Row(
            (P.CLEANING,),
            on,
            when,
            (mark, restart_watchers, refuse("the switch script failed")),
            go,
        )
        for on, mark in (
            (On.SCRIPT_OK, mark_clean),
            (On.SCRIPT_FAILED, mark_unclean),
            (On.NOT_RUN, mark_unclean),
        )
        for when, go in (((has_failed, peer_can_have_it), P.TELLING), ((), P.STANDBY))
    ),
    *(
        Row((P.DEMOTING,), On.SCRIPT_OK, cause, (mark_clean, settle_peer), P.TELLING)
        for cause in ((by_interface,), (by_person,), (by_healing, hears_peer))
    ),
    # Only ARP tells, which anybody can forge: the role is taken again as soon as that ends.
    Row(
        (P.DEMOTING,),
        On.SCRIPT_OK,
        (by_healing, link_is_silent, confirm_by_arp),
        (mark_clean, restart_watchers, settle_standby, leave_role, question),
        P.CONFIRMING,
    ),
    Row((P.DEMOTING,), On.SCRIPT_OK, (), (mark_clean, restart_watchers, settle_standby), P.STANDBY),
    *(
        Row(
            (P.DEMOTING,),
            on,
            (by_healing,),
            (mark_unclean, refuse("the switch script failed"), retry_next_window),
            P.REJOINING,
        )
        for on in (On.SCRIPT_FAILED, On.NOT_RUN)
    ),
    Row(
        (P.DEMOTING,),
        On.NOT_RUN,
        (),
        (
            say_once("the switch script cannot be run: we keep the role"),
            refuse("the switch script cannot be run"),
        ),
        P.ACTIVE,
    ),
    Row(
        (P.DEMOTING,),
        On.SCRIPT_FAILED,
        (),
        (
            say_once("the switch script failed to stand down: we take the role back"),
            refuse("the switch script failed"),
        ),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
)

# Perhaps overtaken: the addresses are here, but who serves is asked before they are announced.
REJOIN = (
    *(
        Row(
            (P.REJOINING,),
            on,
            (must_place, *when),
            (refuse("our addresses are gone"),),
            P.PROMOTING,
            Cause.RESTORE,
        )
        for on, when in (
            (On.STATUS, (peer_is_idle,)),
            (On.UNANSWERED, ()),
            (On.LOST, (nobody_to_ask,)),
        )
    ),
    Row(
        (P.REJOINING,),
        On.STATUS,
        (peer_is_active,),
        (say("the peer is active meanwhile: we stand by"),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row((P.REJOINING,), On.STATUS, (peer_is_idle,), (become_active,), P.ACTIVE),
    Row((P.REJOINING,), On.STATUS, (), (retry_soon,)),
    Row((P.REJOINING,), On.LOST, (nobody_to_ask,), (become_active,), P.ACTIVE),
    Row(
        (P.REJOINING,),
        On.LOST,
        (evidence_of_life,),
        (say("somebody else has our addresses: we stand by", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row((P.REJOINING,), On.LOST, (), (retry_next_window,)),
    # Its status may still come, and says more than that somebody answers.
    Row((P.REJOINING,), On.ANSWERED, (), (ask_status,)),
    Row((P.REJOINING,), On.UNANSWERED, (), (become_active,), P.ACTIVE),
    Row((P.REJOINING,), On.UNASKED, (), (retry_next_window,)),
    Row((P.REJOINING,), On.RETRY, (), (ask_both,)),
    Row(
        (P.REJOINING,),
        On.PATIENCE,
        (),
        (refuse("it is not known yet whether the peer has the role"),),
    ),
)

# Roles compared: two active or none. And while the peer is not heard: do others answer as us?
HEALING = (
    Row(SWITCHING, On.COMPARE, (hears_peer,), (compare_when_unheard,)),
    Row(ANY, On.COMPARE, (), (compare_now,)),
    Row((P.STANDBY, *SERVING), On.LINK_ALIVE, (), (compare_now,)),
    Row(SERVING, On.COMPARED, (peer_is_rejoining,)),
    Row(
        SERVING,
        On.COMPARED,
        (peer_is_active, we_yield),
        (say("both machines are active: the peer keeps the role", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row(
        SERVING,
        On.COMPARED,
        (peer_is_active,),
        (say_once("both machines are active: we keep the role"), announce),
    ),
    Row((P.STANDBY,), On.COMPARED, (peer_is_idle, nobody_counted), (count_nobody,)),
    Row((P.STANDBY,), On.COMPARED, (peer_is_active,), (stop_nobody,)),
    Row(
        (P.STANDBY,),
        On.NOBODY,
        (hears_peer, peer_is_idle, we_come_first),
        (say_nobody("no machine is active: we take the role"),),
        P.INQUIRING,
        Cause.HEALING,
    ),
    Row(
        (P.STANDBY,),
        On.NOBODY,
        (hears_peer, peer_is_idle, has_deferred),
        (say_nobody("no machine is active, and the peer does not take the role: we do"),),
        P.INQUIRING,
        Cause.HEALING,
    ),
    Row((P.STANDBY,), On.NOBODY, (hears_peer,), (wait_for_peer,)),
    Row(SERVING, On.LINK_SILENT, (), (question_own,)),
    Row(SERVING, On.INTERFACE_BACK, (), (question_own,)),
    Row((P.STANDBY,), On.UNCOMPARED, (is_speechless, unheard), (question_once,)),
    Row(SERVING, On.UNCOMPARED, (unheard, own_is_due), (question_own,)),
    Row(SERVING, On.OWN, (is_claimed,), (question_own,)),
    Row(
        SERVING,
        On.OWN_ANSWERED,
        (boot_slave, claimed_thrice),
        (say("standing down while somebody else answers for our addresses", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row(SERVING, On.OWN_ANSWERED, (boot_slave,), (question_own,)),
    Row(SERVING, On.OWN_ANSWERED, (), (trust_interfaces, announce, question_own_soon)),
    Row(
        SERVING,
        On.OWN_UNANSWERED,
        (is_claimed,),
        (
            say("nobody else answers for our addresses any more"),
            end_claim,
            trust_interfaces,
            announce,
        ),
    ),
    Row(SERVING, On.OWN_UNANSWERED, (unheard,), (trust_interfaces, announce)),
    Row(SERVING, On.OWN_UNANSWERED, (), (trust_interfaces,)),
)

# The loop stood still for a window: what it knew is old, and what it did may be overtaken.
STANDSTILL = (
    Row((P.INQUIRING,), On.STALLED, (), (ask_status,)),
    Row((P.SEEKING, P.CALLING, P.DOUBTING), On.STALLED, go=P.INQUIRING),
    Row(
        (P.CONFIRMING, P.FENCING),
        On.STALLED,
        (),
        (refuse("we stood still meanwhile"),),
        P.STANDBY,
    ),
    Row((P.PROMOTING,), On.STALLED, (), (mark_stalled,)),
    Row(
        (P.ACTIVE, P.ASKING),
        On.STALLED,
        (),
        (
            say("we stood still for longer than a window: asking before anything else", True),
            ask_both,
        ),
        P.REJOINING,
    ),
    Row((P.REJOINING,), On.STALLED, (), (ask_both,)),
    Row((P.TELLING,), On.STALLED, (), (wait_longest,), P.UNSURE),
    Row((P.UNSURE,), On.STALLED, (), (wait_longest, ask_status)),
)

ROWS = (
    *START,
    *TOLD_FAIL,
    *TOLD_RESUME,
    *HEARD_AFTER_ALL,
    *RESUMING,
    *SILENCE,
    *HANDOVER,
    *UNTIL_IT_KNOWS,
    *SCRIPTS,
    *REJOIN,
    *HEALING,
    *STANDSTILL,
)
