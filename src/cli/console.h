#pragma once
// Standard output and standard error: data goes to the first, everything said to people to the
// second when a command prints data. Knows about terminals, colour and width.

#include <string>
#include <string_view>

#include "base/exit_status.h"
#include "base/json.h"
#include "base/result.h"

namespace squall::cli {

enum class Colour { kNone, kBold, kDim, kRed, kGreen, kYellow, kBlue };

// Off for NO_COLOR (any non-empty value), TERM=dumb, --no-color, and when not a terminal.
bool colour_on_output();
bool colour_on_error();
void forbid_colour();
bool output_is_terminal();
bool error_is_terminal();
int terminal_width();  // columns of standard error, 80 when unknown

std::string paint(std::string_view text, Colour colour, bool enabled);

// To standard output; a closed pipe ends the program quietly, as head(1) expects.
void print(std::string_view text);
void print_line(std::string_view text);
void print_json(const base::Json& json);
// To standard error.
void say(std::string_view text);

// "error: message" and "hint: next step" to standard error; returns the exit status of its code.
base::ExitStatus fail(const base::Error& error);

}  // namespace squall::cli
