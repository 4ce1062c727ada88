#pragma once
// The words, glyphs and numbers of reports: the same in every format. Internal.

#include <string>
#include <string_view>

#include "base/units.h"
#include "judge/judgement.h"

namespace squall::report {

class Contents;
struct VerdictCounts;

std::string_view word(model::Verdict verdict);     // "no data"
std::string_view word(model::RunVerdict verdict);  // "nothing judged" for none
// A sign that carries the verdict without colour.
std::string_view glyph(model::Verdict verdict, bool unicode = true);

// How good news are, for colours and classes.
enum class Tone { kGood, kBad, kUnsure, kPlain };
Tone tone_of(model::Verdict verdict);
Tone tone_of_run(const judge::Judgement& judgement);
std::string_view class_name(Tone tone);  // "good", "bad", "unsure", "plain"

// The verdict in one or two words, capitals for banners: "HELD", "REFUTED", "ABORTED".
std::string banner(const judge::Judgement& judgement);
// One sentence: "2 of 5 predictions were violated, 3 held."
std::string headline(const Contents& contents);
std::string counts_text(const VerdictCounts& counts);

// What must be said first, or empty: a revert that was not verified, a fault without effect.
std::string alarm(const judge::Judgement& judgement);

std::string seconds_text(double seconds);  // "12.3s", "1min 17s": for moments and lengths
std::string number_text(double value, base::Dimension dimension);
// "182ms [171ms, 195ms]", or "-" without a value.
std::string value_text(const judge::PredictionResult& result);
// "< 250ms", "between 1s and 2s"; empty when unknown.
std::string threshold_text(const judge::PredictionResult& result);
// Is it the prediction that somebody calls `name`? A steady state is judged in two phases, whose
// results are called "up (baseline)" and "up (recovery)"; "up" means both.
bool goes_by(const judge::PredictionResult& result, std::string_view name);
// "fault", "steady state, recovery"
std::string phase_text(const judge::PredictionResult& result);
// The same beside the result's name, which may say the phase of a steady state already.
std::string phase_note(const judge::PredictionResult& result);

// A word of a command line, quoted when it has to be.
std::string shell_word(std::string_view word);

}  // namespace squall::report
