#pragma once
// Mistakes in a user's file: all of them at once, each with file, line and column.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace squall::model {

// Where a value stands in a file. Lines and columns count from 1; 0 means unknown.
struct Location {
  std::string file;
  int line = 0;
  int column = 0;
};

enum class Severity { kError, kWarning };

struct Diagnostic {
  Severity severity = Severity::kError;
  Location location;
  std::string message;
  std::string hint;     // the remedy; may be empty
  std::string excerpt;  // the offending line of the file; may be empty
  int width = 1;        // how many columns are meant, for the caret line
};

// Copyable; not thread-safe. Keeps the first thousand mistakes and shows the first fifty.
class Diagnostics {
 public:
  void error(Location location, std::string message, std::string hint = {}, int width = 1);
  void warning(Location location, std::string message, std::string hint = {}, int width = 1);
  bool has_errors() const;
  // No more are kept: whoever searches for suggestions may as well stop.
  bool full() const;
  const std::vector<Diagnostic>& all() const { return all_; }
  // The text of the file, so that excerpts can be shown.
  void set_source(std::string file, std::string_view text);
  // Adds what is not here already.
  void append(const Diagnostics& other);
  // "worker.yaml:7:3: error: unknown key `fautls`" with excerpt, caret and hint, one after another.
  std::string render() const;
  // kBadFile with the rendered text as message; only when has_errors().
  base::Error to_error() const;

 private:
  void add(Diagnostic diagnostic);

  bool has_errors_ = false;
  std::vector<Diagnostic> all_;
  std::vector<std::pair<std::string, std::vector<std::string>>> sources_;
};

}  // namespace squall::model
