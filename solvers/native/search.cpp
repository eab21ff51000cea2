// The Python module poet_solvers._search: one call that searches with the GIL released.
//
// The parts: problem.hpp (tables), state.hpp (a sequence and its memory), trial.hpp (what a change would
// do), moves.hpp (which changes are tried), anneal.hpp (which are accepted). Nothing here is believed:
// Python decodes what comes back, the judge decides.

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "anneal.hpp"

namespace nb = nanobind;

namespace {

using namespace poet;
using Clock = std::chrono::steady_clock;

nb::object as_tuple(const Answer& answer) {
    return nb::make_tuple(answer.cost, answer.runs, answer.paged, answer.late, answer.start_ram);
}

nb::object search(const Problem& problem, const Ints& runs, const std::vector<std::pair<int, int>>& paged,
                  const Ints& start_ram, std::uint64_t seed, std::int64_t moves, double seconds, double price,
                  bool check, const std::function<bool(nb::object, std::int64_t)>& poll) {
    auto asked = Clock::now() - std::chrono::seconds(1), told = asked;
    double told_cost = -1;
    // Asked about 20 times a second, told of a better answer 10 times a second at most.
    auto often = [&](const Answer* best, std::int64_t done) {
        auto now = Clock::now();
        if (now - asked < std::chrono::milliseconds(50)) return true;
        asked = now;
        bool news = best != nullptr && best->cost != told_cost && now - told >= std::chrono::milliseconds(95);
        nb::gil_scoped_acquire held;
        if (!news) return poll(nb::none(), done);
        told = now;
        told_cost = best->cost;
        return poll(as_tuple(*best), done);
    };
    Answer answer;
    std::int64_t done;
    {
        nb::gil_scoped_release released;
        Search search(problem, Start{runs, paged, start_ram}, seed, price, check);
        answer = search.run(moves, seconds, often);
        done = search.moves();
    }
    return nb::make_tuple(as_tuple(answer), done);
}

}  // namespace

NB_MODULE(_search, module) {
    nb::class_<Problem>(module, "Problem")
        .def(nb::init<>())
        .def_rw("needed", &Problem::needed)
        .def_rw("written", &Problem::written)
        .def_rw("mutated", &Problem::mutated)
        .def_rw("uses", &Problem::uses)
        .def_rw("generator", &Problem::generator)
        .def_rw("workspace", &Problem::workspace)
        .def_rw("run", &Problem::run)
        .def_rw("may_rerun", &Problem::may_rerun)
        .def_rw("superseders", &Problem::superseders)
        .def_rw("random_before", &Problem::random_before)
        .def_rw("random_after", &Problem::random_after)
        .def_rw("size", &Problem::size)
        .def_rw("page_in", &Problem::in)
        .def_rw("page_out", &Problem::out)
        .def_rw("flash", &Problem::flash)
        .def_rw("producer", &Problem::producer)
        .def_rw("storage", &Problem::storage)
        .def_rw("earlier", &Problem::earlier)
        .def_rw("later", &Problem::later)
        .def_rw("begins", &Problem::begins)
        .def_rw("persistent", &Problem::persistent)
        .def_rw("results", &Problem::results)
        .def_rw("budget", &Problem::budget)
        .def_rw("page", &Problem::page)
        .def_rw("rematerialize", &Problem::rematerialize)
        .def_rw("reorder", &Problem::reorder)
        .def_rw("overlap", &Problem::overlap)
        .def_rw("time", &Problem::time)
        .def_rw("idle_watts", &Problem::idle_watts)
        .def_rw("most_seconds", &Problem::most_seconds)
        .def_rw("most_joules", &Problem::most_joules)
        .def_rw("most_flash", &Problem::most_flash)
        .def_rw("most_writes", &Problem::most_writes);
    module.def("search", &search, nb::arg("problem"), nb::arg("runs"), nb::arg("paged"), nb::arg("start_ram"),
               nb::arg("seed"), nb::arg("moves"), nb::arg("seconds"), nb::arg("price"), nb::arg("check"),
               nb::arg("poll"));
}
