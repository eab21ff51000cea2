// What no sum of costs tells: the two-lane clock of docs/rules.md, and how full flash gets.
//
// A sequence says which uses page in, not when. Here each page_in is issued as late as lets it arrive
// in time, earlier than its use only where memory allows; a page_out follows what gives its value, and
// the free that would wait for it is put off while memory allows. Then the step is replayed as the
// judge will. Invariant: what is put early or late never brings memory over the budget, and an Answer
// that says where everything goes is written out by poet_solvers/occurrences.py in this very order.

#pragma once

#include <limits>

#include "state.hpp"

namespace poet {

struct Figures {
    double seconds = 0, flash = 0;  // step time; the most bytes alive in flash
};

class Replay {
  public:
    explicit Replay(const Problem& p)
        : p_(p), arrival_(p.size.size()), departure_(p.size.size()), copied_(p.size.size(), 0),
          first_page_(p.size.size(), 0) {}

    bool needed() const {
        bool clock = p_.overlap && (p_.time || p_.idle_watts > 0 || p_.most_seconds >= 0);
        return clock || p_.most_flash >= 0;
    }
    Figures figures(const State& state) {
        Figures found;
        const Amounts& amounts = state.amounts();
        found.seconds = amounts[COMPUTE] + amounts[LANE];
        gather(state);
        if (p_.overlap) {
            issue_early(state);
            found.seconds = run(state);
        }
        if (p_.most_flash >= 0) found.flash = flash_peak(state);
        return found;
    }
    void place(const State& state, Answer& answer) {
        if (!p_.overlap) return;
        figures(state);
        answer.paged.clear();
        for (int place = 1; place < state.length(); ++place)
            for (int i = issued_[place]; i >= 0; i = pages_[i].next)
                answer.paged.emplace_back(pages_[i].value, pages_[i].place - 1, place - 1);
        answer.late.clear();
        for (const Late& late : freed_late_)
            answer.late.emplace_back(late.value, late.touched - 1, late.until - 1);
    }

  private:
    struct Page { int value, place, issue, next; };          // a use that pages in
    struct Touch { int value, index, next; };                // an event of a value that transfers
    struct Late { int value, touched, until, deadline; };    // a free put off

    const Problem& p_;
    Numbers room_, starts_, lane_free_, arrival_, departure_;  // three by place, two by value
    Ints copied_, first_page_, issued_, touched_;            // by value; by value: its first in pages_;
                                                             // by place: first in a list, or -1
    std::vector<Page> pages_;
    std::vector<Touch> touches_;
    std::vector<Late> late_, freed_late_;

    bool copies(const State& state, int v) const {
        int i = state.ends_of(v);
        if (i < 0) return state.pages_of(v) > 0;
        return v == p_.persistent[i].second && state.copies_end(i);
    }
    // The events of every value that is ever paged in or out, by place; uses that page in, by place.
    void gather(const State& state) {
        int length = state.length();
        pages_.clear();
        touches_.clear();
        issued_.assign(length, -1);
        touched_.assign(length, -1);
        for (int v = static_cast<int>(p_.size.size()) - 1; v >= 0; --v) {
            copied_[v] = copies(state, v) ? 1 : 0;
            arrival_[v] = departure_[v] = 0;
            first_page_[v] = static_cast<int>(pages_.size());
            if (!copied_[v] && state.pages_of(v) == 0) continue;
            const Events& list = state.events(v);
            for (int index = 0; index < static_cast<int>(list.size()); ++index) {
                int place = state.place_of(list[index]);
                touches_.push_back({v, index, touched_[place]});
                touched_[place] = static_cast<int>(touches_.size()) - 1;
                if (!list[index].paged) continue;
                pages_.push_back({v, place, place, issued_[place]});
                issued_[place] = static_cast<int>(pages_.size()) - 1;
            }
        }
    }
    // From the last use back: each transfer should end when its use, or the next transfer, begins. One
    // that is issued before a place begins once the page_outs issued by then are done.
    void issue_early(const State& state) {
        int length = state.length();
        room_.assign(state.memory().begin(), state.memory().end());
        starts_.resize(length);
        lane_free_.resize(length);
        double time = 0, lane = 0;
        for (int place = 0; place < length; ++place) {
            starts_[place] = time;
            lane_free_[place] = std::max(time, lane);
            int op = state.op(state.order()[place]);
            if (op >= 0) time += p_.run[op][COMPUTE];
            for (int i = touched_[place]; i >= 0; i = touches_[i].next)
                if (copied_[touches_[i].value] && touches_[i].index == 0)
                    lane = std::max(lane, time) + p_.out[touches_[i].value][LANE];
        }
        order_.clear();
        for (int place = 0; place < length; ++place)
            for (int i = issued_[place]; i >= 0; i = pages_[i].next) order_.push_back(i);
        double next = std::numeric_limits<double>::infinity();
        for (std::size_t k = order_.size(); k-- > 0;) {
            Page& page = pages_[order_[k]];
            double begin = std::min(starts_[page.place], next) - p_.in[page.value][LANE];
            int lowest = first_issue(state, page), at = page.place;
            double size = p_.size[page.value];
            while (at > lowest && lane_free_[at] > begin && room_[at - 1] + size <= 0) --at;
            for (int place = at; place < page.place; ++place) room_[place] += size;
            page.issue = at;
            next = std::max(begin, starts_[at]);
        }
        issued_.assign(length, -1);
        for (std::size_t k = order_.size(); k-- > 0;) {
            Page& page = pages_[order_[k]];
            page.next = issued_[page.issue];
            issued_[page.issue] = order_[k];
        }
    }
    Ints order_;  // of the uses that page in, by place
    int first_issue(const State& state, const Page& page) const {
        const Events& list = state.events(page.value);
        int index = state.lower(page.value, page.place);
        return index > 0 ? state.place_of(list[index - 1]) + 1 : 1;
    }
    bool changed_in_place(int op, int v) const {
        int later = p_.later[v];
        if (op < 0 || later < 0 || p_.producer[later] != op) return false;
        return std::find(p_.mutated[op].begin(), p_.mutated[op].end(), later) != p_.mutated[op].end();
    }
    double run(const State& state) {
        double program = 0, lane = 0;
        late_.clear();
        freed_late_.clear();
        int last = state.length() - 1;
        for (int place = 0; place <= last; ++place) {
            int op = state.op(state.order()[place]);
            for (int i = issued_[place]; i >= 0; i = pages_[i].next) {
                lane = std::max(program, lane) + p_.in[pages_[i].value][LANE];
                arrival_[pages_[i].value] = lane;
            }
            if (op >= 0) {
                for (int i = touched_[place]; i >= 0; i = touches_[i].next) {
                    int v = touches_[i].value;
                    program = std::max(program, arrival_[v]);
                    if (changed_in_place(op, v)) program = std::max(program, departure_[v]);
                }
                program += p_.run[op][COMPUTE];
            }
            for (int i = touched_[place]; i >= 0; i = touches_[i].next) {
                const Touch& touch = touches_[i];
                if (!copied_[touch.value] || touch.index != 0) continue;
                lane = std::max(program, lane) + p_.out[touch.value][LANE];
                departure_[touch.value] = lane;
            }
            if (place < last) free_what_ends(state, place, op, program);
        }
        return std::max(program, lane);
    }
    void free_what_ends(const State& state, int place, int op, double& program) {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < late_.size(); ++i) {
            Late late = late_[i];
            if (departure_[late.value] > program && may_stay(late, place)) {
                late_[kept++] = late;
            } else {
                late.until = place;
                freed_late_.push_back(late);
                program = std::max(program, departure_[late.value]);
            }
        }
        late_.resize(kept);
        for (int i = touched_[place]; i >= 0; i = touches_[i].next) {
            int v = touches_[i].value, index = touches_[i].index;
            if (state.held(v, index + 1) || changed_in_place(op, v)) continue;
            if (departure_[v] <= program) continue;
            Late late{v, place, place, deadline(state, v, index)};
            if (may_stay(late, place)) late_.push_back(late); else program = std::max(program, departure_[v]);
        }
    }
    // Over the run at the next place, too.
    bool may_stay(const Late& late, int place) {
        double size = p_.size[late.value];
        if (place + 1 >= late.deadline || room_[place + 1] + size > 0) return false;
        room_[place + 1] += size;
        return true;
    }
    // The first place before which the storage must be free again.
    int deadline(const State& state, int v, int index) const {
        const Events& list = state.events(v);
        int first = state.length() - 1;
        if (index + 1 < static_cast<int>(list.size())) {
            int place = state.place_of(list[index + 1]);
            if (list[index + 1].paged) place = issue_of(v, place);
            first = std::min(first, place);
        }
        if (p_.later[v] >= 0) first = std::min(first, state.place(p_.producer[p_.later[v]]));
        return first;
    }
    int issue_of(int v, int place) const {
        for (std::size_t i = first_page_[v]; i < pages_.size() && pages_[i].value == v; ++i)
            if (pages_[i].place == place) return pages_[i].issue;
        return place;
    }
    double flash_peak(const State& state) {
        double always = 0;
        for (std::size_t i = 0; i < p_.persistent.size(); ++i) {
            int first = p_.persistent[i].first;
            bool in_flash = !state.begins_in_ram(static_cast<int>(i));
            for (int v = first; v >= 0 && !in_flash; v = p_.later[v]) in_flash = state.pages_of(v) > 0 || copied_[v];
            if (in_flash) always += p_.flash[first];
        }
        flash_in_.assign(state.length(), 0.0);
        flash_out_.assign(state.length(), 0.0);
        for (const Page& page : pages_) last_page(state, page);
        double alive = always, peak = always;
        for (int place = 0; place < state.length(); ++place) {
            alive -= flash_in_[place];
            alive += flash_out_[place];
            peak = std::max(peak, alive);
        }
        return peak;
    }
    Numbers flash_in_, flash_out_;
    // A copy of what is not persistent lives from what gives it to its last page_in.
    void last_page(const State& state, const Page& page) {
        int v = page.value;
        if (of_persistent(v)) return;
        const Events& list = state.events(v);
        for (std::size_t k = list.size(); k-- > 0;) {
            if (!list[k].paged) continue;
            if (state.place_of(list[k]) != page.place) return;
            break;
        }
        flash_in_[page.issue] += p_.flash[v];
        flash_out_[state.place_of(list[0])] += p_.flash[v];
    }
    bool of_persistent(int v) const {
        while (p_.earlier[v] >= 0) v = p_.earlier[v];
        for (auto [first, last] : p_.persistent)
            if (first == v) return true;
        return false;
    }
};

}  // namespace poet
