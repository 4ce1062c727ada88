#pragma once
// One HTTP/1.1 exchange over a UNIX socket, as container engines speak it: one request without a
// body, one answer, then the connection ends. Nothing here blocks.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace squall::host {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// Takes an answer apart as it arrives. Strict: what is not HTTP/1.0 or 1.1 with a length, chunks or
// an end of the connection is kCorrupt, and so is an answer longer than the limit.
class HttpAnswerParser {
 public:
  explicit HttpAnswerParser(std::size_t body_limit) : body_limit_(body_limit) {}

  base::Status feed(std::string_view bytes);
  // The connection ended: that is the end of an answer without a length, and a torn one else.
  base::Status end();
  bool done() const { return stage_ == Stage::kDone; }
  HttpAnswer take() { return std::move(answer_); }

 private:
  enum class Stage { kHead, kLength, kUntilEnd, kChunkSize, kChunk, kChunkEnd, kTrailer, kDone };

  // Each consumes from buffer_; false when it needs more bytes.
  base::Result<bool> advance();
  base::Result<bool> read_head();
  base::Status read_status(std::string_view line);
  base::Status read_header(std::string_view line);
  base::Status begin_body();
  base::Result<bool> read_chunk_size();
  base::Result<std::optional<std::string>> take_line();
  bool take_body();
  base::Status check_room(std::size_t more) const;

  std::size_t body_limit_;
  Stage stage_ = Stage::kHead;
  std::string buffer_;
  std::size_t head_bytes_ = 0;
  std::size_t trailer_bytes_ = 0;
  std::size_t left_ = 0;  // of a body with a length, or of a chunk
  std::optional<std::size_t> length_;
  bool chunked_ = false;
  bool status_read_ = false;
  HttpAnswer answer_;
};

class UnixHttpExchange {
 public:
  struct Request {
    std::string socket;  // path
    std::string method;
    std::string target;  // "/containers/json"
    std::size_t answer_limit = std::size_t{1} << 20;
  };
  explicit UnixHttpExchange(Request request);

  // Connects and sends at the first call. Empty: call again when fd() is readable. kNotFound: no
  // such socket; kUnavailable: nobody serves it, or it closed without an answer.
  base::Result<std::optional<HttpAnswer>> advance();
  int fd() const { return socket_.get(); }
  const Request& request() const { return request_; }

 private:
  base::Status send();

  Request request_;
  base::UniqueFd socket_;
  HttpAnswerParser parser_;
  bool got_bytes_ = false;
};

}  // namespace squall::host
