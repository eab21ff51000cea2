// The search: diverse short anneals, then the rest of the moves on the best of them.
//
// A proposal is evaluated without being made; it is made once it is accepted, or where a second one
// builds on it. What is minimised is cost plus a price on bytes over the budget, which rises while the
// state is over it. Invariant: what is kept fits and is not broken. Deterministic for a seed and a
// number of moves as long as no time limit is given.

#pragma once

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "moves.hpp"
#include "objective.hpp"

namespace poet {

class Search {
  public:
    using Poll = std::function<bool(const Answer*, std::int64_t)>;  // the best, where there is one

    Search(const Problem& problem, const Start& start, std::uint64_t seed, double price, bool check)
        : p_(problem), moves_(problem, seed), trial_(problem), goal_(problem, price), first_(start), check_(check) {
        for (const Ints& after : p_.superseders) updates_ = updates_ || !after.empty();
        for (double size : p_.size) mean_size_ += size / static_cast<double>(p_.size.size());
    }

    Answer run(std::int64_t moves, double seconds, const Poll& poll) {
        begun_ = Clock::now();
        limit_ = seconds;
        poll_ = &poll;
        const std::int64_t tenth = moves / 10;
        if (goal_.replays()) return run_with_clock(tenth);
        Start last = first_;
        bool orders = p_.reorder && !p_.page;  // order is all there is beside second runs
        if (orders) last = order_first(tenth / 2, 0.0, 0.05);
        if (orders && end_excess_ < 0.9 * begin_excess_) {  // and the given one is not good
            last = anneal(last, 7 * tenth / 2, 0.05, 0.4, 0.1);
            if (found()) {
                anneal(order_first(tenth / 2, 0.4, 0.45), tenth, 0.45, 0.55, 0.1);
                anneal(first_, tenth / 2, 0.55, 0.6, 0.1);
            }
        } else {
            last = anneal(first_, 4 * tenth, orders ? 0.05 : 0.0, 0.4, 0.1);
            if (found()) {
                anneal(first_, tenth, 0.4, 0.5, 0.4);
                anneal(first_, tenth, 0.5, 0.6, 0.02);
            }
        }
        if (!found()) last = squeeze(last, 3 * tenth, 0.4, 0.7);
        anneal(found() ? as_start(best_) : last, moves - 6 * tenth, found() ? 0.6 : 0.7, 1.0, 0.03);
        return best_;
    }
    // Proposals that were evaluated, accepted or not.
    std::int64_t moves() const { return trial_.count(); }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int poll_every = 512;
    static constexpr double heat_of_squeeze = 0.3, heat_of_round = 0.0005;
    static constexpr double any = std::numeric_limits<double>::infinity();

    const Problem& p_;
    Moves moves_;
    Trial trial_;
    Objective goal_;
    Figures now_;  // of the state as accepted
    Start first_;
    double limit_ = 0, mean_size_ = 0, begin_excess_ = 0, end_excess_ = 0;  // of an anneal
    double pretended_ = std::numeric_limits<double>::infinity();
    bool pretends_ = false, squeezes_ = false, orders_ = false, check_ = false, stopped_ = false;
    Answer best_;
    double best_seconds_ = 0;
    Change change_;
    Clock::time_point begun_;
    const Poll* poll_ = nullptr;

    bool found() const { return best_.cost >= 0; }
    static Start as_start(const Answer& answer) {
        Start start{answer.runs, {}, answer.start_ram};
        for (auto [v, place, issued] : answer.paged) start.paged.emplace_back(v, place);
        return start;
    }
    double elapsed() const { return std::chrono::duration<double>(Clock::now() - begun_).count(); }

    // A replay takes as long as some ten proposals: the first moves go to serial costs, once as they are
    // and once with transfers that are nearly free, as they are where compute hides them. From each a
    // round with the clock; then rounds from the best, each longer, so that nobody waits for the first.
    Answer run_with_clock(std::int64_t tenth) {
        pretends_ = true;
        goal_.pretend_serial(true);
        Start serial = anneal(first_, 4 * tenth / 10, 0.0, 0.04, 0.1);
        goal_.pretend_serial(false);
        pretends_ = false;
        Start last = anneal(found() ? as_start(best_) : serial, 6 * tenth / 10, 0.04, 0.1, heat_of_round);
        if (p_.page && p_.rematerialize)
            last = anneal(mostly_paged(4 * tenth / 10, 0.1, 0.14), 6 * tenth / 10, 0.14, 0.2, heat_of_round);
        const double ends[] = {0.2, 0.4, 0.85};
        for (int i = 1; i < 3; ++i) {
            auto moves = static_cast<std::int64_t>(static_cast<double>(10 * tenth) * (ends[i] - ends[i - 1]));
            if (found()) last = anneal(as_start(best_), moves, ends[i - 1], ends[i], heat_of_round);
            else last = squeeze(last, moves, ends[i - 1], ends[i]);
        }
        if (p_.time && found()) save_joules(tenth); else anneal(found() ? as_start(best_) : last, tenth, 0.85, 1.0, 0.03);
        return best_;
    }
    // What a search without a clock finds where transfers cost a tenth.
    Start mostly_paged(std::int64_t moves, double from, double until) {
        Problem cheap = p_;
        cheap.overlap = false;
        cheap.most_seconds = cheap.most_joules = cheap.most_flash = cheap.most_writes = -1;
        for (std::vector<Amounts>* transfers : {&cheap.in, &cheap.out})
            for (Amounts& one : *transfers) one[COST] *= 0.1;
        Search other(cheap, first_, moves_.random.next(), goal_.price(), check_);
        Poll poll = [this](const Answer*, std::int64_t done) {
            return (*poll_)(found() ? &best_ : nullptr, trial_.count() + done);
        };
        other.begun_ = begun_;
        other.limit_ = limit_;
        other.poll_ = &poll;
        Start last = other.anneal(first_, moves, from, until, 0.1);
        stopped_ = other.stopped_;
        return other.found() ? as_start(other.best_) : last;
    }
    // What no second is won with: transfers go where the step takes no longer without them.
    void save_joules(std::int64_t moves) {
        Answer fastest = best_;
        goal_.least_joules(fastest.cost);
        best_.cost = any;
        anneal(as_start(fastest), moves, 0.85, 1.0, 0.03);
        if (best_.cost == any) best_ = fastest; else best_.cost = best_seconds_;
    }
    // Every op once, in an order that keeps memory low.
    Start order_first(std::int64_t moves, double from, double until) {
        Start once{{}, {}, first_.start_ram};
        for (int op = 0; op < static_cast<int>(p_.needed.size()); ++op) once.runs.push_back(op);
        orders_ = true;
        Start end = squeeze(once, moves, from, until);
        orders_ = false;
        return end;
    }
    // Memory first, cost second: for budgets that hardly anything meets.
    Start squeeze(const Start& start, std::int64_t moves, double from, double until) {
        squeezes_ = true;
        Start end = anneal(start, moves, from, until, heat_of_squeeze);
        squeezes_ = false;
        return end;
    }
    Start anneal(const Start& start, std::int64_t moves, double from, double until, double heat) {
        State state(p_, start);
        double share = 0, temperature = 0;
        goal_.reset();
        if (squeezes_) goal_.dear();
        begin_excess_ = state.excess();
        now_ = goal_.figures(state);
        keep(state);
        const std::int64_t begun = trial_.count();
        for (std::int64_t i = 0; !stopped_; ++i) {
            if (i % poll_every == 0) {
                // Where hardly anything can be proposed, trying counts too.
                std::int64_t done = std::max(trial_.count() - begun, i / 16);
                if (done >= moves || ends()) break;
                share = static_cast<double>(done) / static_cast<double>(moves);
                if (limit_ > 0) {
                    double now = elapsed() / limit_;
                    if (now >= until) break;
                    share = std::max(share, (now - from) / (until - from));
                }
                if (!(*poll_)(found() ? &best_ : nullptr, trial_.count())) { stopped_ = true; break; }
                if (squeezes_ && state.excess() == 0) break;
                if (!squeezes_) goal_.adapt(state.amounts(), state.excess(), now_);
                state.recount();
            }
            if (i % 64 == 0) {
                double overhead = (found() ? best_.cost : goal_.cost(state.amounts(), now_)) - goal_.base();
                double each = std::max(overhead, 1e-7 * goal_.base()) / std::max(1, state.changes());
                if (squeezes_) each = goal_.price() * mean_size_;
                temperature = heat * each * std::pow(0.005, share);
            }
            if (step(state, temperature)) keep(state);
        }
        end_excess_ = state.excess();
        return as_start(state.answer(0));
    }
    // Nothing can cost less than every op once and no transfer.
    bool ends() const { return found() && best_.cost <= goal_.base() * (1 + 1e-12); }
    // One move; whether the state changed. How much worse it may get is drawn first (Metropolis): what
    // costs more than that by itself needs no look at memory, and what cannot be worth it no replay.
    bool step(State& state, double temperature) {
        double most = goal_.worth(state.amounts(), state.excess(), now_);
        most -= temperature * std::log(1.0 - moves_.random.unit());
        bool made = first_part(state);
        if (!made_by_itself_ && propose(state)) {
            const Effect& effect = trial_.effect(state, change_, goal_.plain() ? most - state.amounts()[COST] : any);
            if (effect.possible && worth_it(state, effect, most)) {
                if (!goal_.replays()) {
                    if (check_) check(state, effect); else trial_.make_for_good(state, change_);
                    now_ = goal_.figures(state);
                    state.commit();
                    return true;
                }
                make_undoable(state);
                made = true;
            } else {
                if (made) state.undo();
                return false;
            }
        }
        if (!made) return false;
        if (!state.broken() && goal_.lower(state.amounts(), state.excess()) <= most) {
            Figures figures = goal_.figures(state);
            if (goal_.worth(state.amounts(), state.excess(), figures) <= most) {
                now_ = figures;
                state.commit();
                return true;
            }
        }
        state.undo();
        return false;
    }
    bool worth_it(const State& state, const Effect& effect, double most) const {
        if (goal_.plain())  // the usual case, short
            return goal_.worth_plain(state.amounts()[COST] + effect.amounts[COST], state.excess() + effect.excess) <= most;
        Amounts after = state.amounts();
        add_to(after, effect.amounts);
        return goal_.lower(after, state.excess() + effect.excess) <= most;
    }
    // Some moves have two parts, the first of which is made at once; some are all of that kind.
    bool made_by_itself_ = false;
    double pick_ = 0;
    bool first_part(State& state) {
        made_by_itself_ = false;
        pick_ = moves_.random.unit();
        swap_ = false;
        if (orders_) {
            made_by_itself_ = pick_ > 0.7;
            pick_ = 1.0;
            return made_by_itself_ && shift_runs(state);
        }
        if (pick_ < 0.30) {  // hold one value instead of another
            swap_ = true;
            return p_.page && moves_.hold(state, change_) && make_possible(state);
        }
        pick_ = (pick_ - 0.30) / 0.70;
        if (pick_ > 0.96 && !p_.persistent.empty() && p_.page) {
            made_by_itself_ = true;
            return start_side(state);
        }
        if (p_.reorder && pick_ > 0.90) {
            made_by_itself_ = true;
            return shift_runs(state);
        }
        if (moves_.random.chance(0.15)) {
            double keep = pick_;
            pick_ = moves_.random.unit();
            bool made = propose(state) && make_possible(state);
            pick_ = keep;
            return made;
        }
        return false;
    }
    bool shift_runs(State& state) {
        bool defers = !orders_ && p_.rematerialize && updates_ && pick_ < 0.92;
        bool moved = defers ? moves_.defer(state, trial_, change_) : moves_.shift(state, trial_, change_);
        if (!moved) state.undo();
        return moved;
    }
    bool swap_ = false, updates_ = false;
    void make_undoable(State& state) {
        if (change_.what == What::move) trial_.make_move(state, change_); else make(state, change_);
    }
    bool make_possible(State& state) {
        if (!trial_.effect(state, change_, any).possible) return false;
        make_undoable(state);
        return true;
    }
    bool propose(State& state) {
        if (swap_ || pick_ < 0.40) return moves_.bring_back(state, change_);
        if (pick_ < 0.55) return p_.page && moves_.hold(state, change_);
        if (pick_ < 0.78) return moves_.drop(state, change_);
        return moves_.relocate(state, change_);
    }
    // A persistent storage begins in RAM instead of flash, or the other way round.
    bool start_side(State& state) {
        int i = moves_.random.below(static_cast<int>(p_.persistent.size()));
        int first = p_.persistent[i].first;
        bool in_ram = state.begins_in_ram(i);
        state.set_ram(i, !in_ram);
        const Events& list = state.events(first);
        if (in_ram) {
            if (!list.empty() && list[0].held_use()) state.flag(first, list[0].node, true);
        } else if (list.size() > 1 && list[1].paged) {
            state.flag(first, list[1].node, false);
        }
        return true;
    }
    void check(State& state, Effect effect) {
        Amounts amounts = state.amounts();
        double excess = state.excess();
        trial_.make_for_good(state, change_);
        double off = std::fabs(state.excess() - excess - effect.excess);
        off += std::fabs(state.amounts()[COST] - amounts[COST] - effect.amounts[COST]) > 1e-9 * (1 + goal_.base());
        if (off == 0) off = state.audit();
        if (off != 0 || state.broken()) throw std::logic_error("a change did not do what its trial said: kind " +
            std::to_string(static_cast<int>(change_.what)) + " off " + std::to_string(off) + (state.broken() ? " broken" : ""));
    }
    void keep(const State& state) {
        if (state.excess() > 0 || state.broken()) return;
        Figures figures = now_;
        if (pretends_) {  // only where the pretended cost is the best so far: then by the truth
            if (state.amounts()[COST] >= pretended_ * (1 - 1e-12)) return;
            pretended_ = state.amounts()[COST];
            goal_.pretend_serial(false);
            figures = goal_.figures(state);
        }
        double cost = goal_.cost(state.amounts(), figures);
        if (goal_.allowed(state.amounts(), figures) && !(found() && cost >= best_.cost * (1 - 1e-12))) {
            state.answer(cost, best_);
            best_seconds_ = figures.seconds;
            goal_.place(state, best_);
        }
        if (pretends_) goal_.pretend_serial(true);
    }
};

}  // namespace poet
